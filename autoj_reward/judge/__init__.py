# SPDX-License-Identifier: Apache-2.0
"""One request in, one judgment out: templates, verdicts, parsing, aggregation."""

# SPDX-License-Identifier: Apache-2.0
"""HTML reports about a run, self-contained in one file."""

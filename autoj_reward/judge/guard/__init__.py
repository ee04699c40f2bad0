# SPDX-License-Identifier: Apache-2.0
"""Protect the judge from completions that imitate its format or its verdicts."""

# SPDX-License-Identifier: Apache-2.0
"""Rubrics of weighted criteria: what they are, where they are read from, how verdicts become one."""

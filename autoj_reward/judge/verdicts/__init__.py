# SPDX-License-Identifier: Apache-2.0
"""Verdict sets beyond one number: their settings, lists of scores, and bounded patterns."""

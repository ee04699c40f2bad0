# SPDX-License-Identifier: Apache-2.0
"""Rank completions and build preference pairs: strategies, tournaments, labels."""

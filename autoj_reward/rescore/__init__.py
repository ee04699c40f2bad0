# SPDX-License-Identifier: Apache-2.0
"""Recompute cached judgments with another parser, verdict set or threshold."""

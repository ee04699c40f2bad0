# SPDX-License-Identifier: Apache-2.0
"""Measure judges: agreement with people, critiques, selection, probes."""

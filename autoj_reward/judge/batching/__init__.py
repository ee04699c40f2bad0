# SPDX-License-Identifier: Apache-2.0
"""Merge the requests of many concurrent callers into batches for one judge."""

# SPDX-License-Identifier: Apache-2.0
"""Readers of files that are not JSON lines: JSON arrays, CSV and TSV."""

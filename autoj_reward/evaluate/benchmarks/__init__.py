# SPDX-License-Identifier: Apache-2.0
"""Public judge benchmarks: read their files, judge their items, and score them as each defines it."""

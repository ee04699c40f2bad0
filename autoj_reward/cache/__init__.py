# SPDX-License-Identifier: Apache-2.0
"""SQLite store of engine outputs, shared by processes. Knows no engine."""

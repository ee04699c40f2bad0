# SPDX-License-Identifier: Apache-2.0
"""Files of rows: read, check, judge in chunks, write and resume."""

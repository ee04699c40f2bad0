# SPDX-License-Identifier: Apache-2.0
"""Files of rows: read them, check them, judge them in chunks, write them, and go on where a run stopped."""

# SPDX-License-Identifier: Apache-2.0
"""Ask a judge about the criteria of a rubric: one by one, or several in one call."""

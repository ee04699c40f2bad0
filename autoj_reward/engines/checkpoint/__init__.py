# SPDX-License-Identifier: Apache-2.0
"""Model weights: where they are, what identifies them, what memory they need."""

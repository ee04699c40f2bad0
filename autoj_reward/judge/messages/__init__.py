# SPDX-License-Identifier: Apache-2.0
"""Turn chat messages of any common format into text, without losing any of it."""

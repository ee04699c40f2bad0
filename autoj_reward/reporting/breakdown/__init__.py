# SPDX-License-Identifier: Apache-2.0
"""What judgments are made of: verdicts on criteria, and verdicts of a panel's members."""

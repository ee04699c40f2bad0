# SPDX-License-Identifier: Apache-2.0
"""Turn judgments into training rewards: scaling, groups, failure policy."""

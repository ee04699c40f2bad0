# SPDX-License-Identifier: Apache-2.0
"""Auto-J's 58 scenarios: classifiers, criteria and the rubrics made from them."""

# SPDX-License-Identifier: Apache-2.0
"""`python -m autoj_reward` is `autoj-reward`."""

from autoj_reward.cli import main

main()

# SPDX-License-Identifier: Apache-2.0
"""Adapters for the reward protocols of further trainers and environments."""

# SPDX-License-Identifier: Apache-2.0
"""What the client of the reward server is made of."""

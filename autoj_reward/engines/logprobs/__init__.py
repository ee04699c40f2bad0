# SPDX-License-Identifier: Apache-2.0
"""Read verdict probabilities: tokenizing, token trees and batching."""

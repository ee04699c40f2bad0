# SPDX-License-Identifier: Apache-2.0
"""Several judges as one."""

# SPDX-License-Identifier: Apache-2.0
"""The row formats that commands recognise, ours and those of published data sets."""

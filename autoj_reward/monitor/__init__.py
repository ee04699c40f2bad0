# SPDX-License-Identifier: Apache-2.0
"""Watch training rewards and raise alarms when they drift."""

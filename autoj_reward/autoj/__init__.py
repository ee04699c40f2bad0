# SPDX-License-Identifier: Apache-2.0
"""Auto-J's own files: formats, published data, scenarios, criteria. Only this room knows their fields."""

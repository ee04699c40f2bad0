# SPDX-License-Identifier: Apache-2.0
"""Auto-J's own files: formats, published data, scenarios, criteria. `rows/fields.py` has its row formats."""

# SPDX-License-Identifier: Apache-2.0
"""One self-contained page about a run: what was judged, how sure, how well, and at what cost."""

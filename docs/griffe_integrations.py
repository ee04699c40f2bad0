# SPDX-License-Identifier: Apache-2.0
"""Griffe extension: `integrations/` is documented under the name it is installed as."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import griffe


class Integrations(griffe.Extension):
    """Adds the folder to the package that griffe has read."""

    def on_package(self, *, pkg: griffe.Module, loader: griffe.GriffeLoader, **kwargs: Any) -> None:
        if pkg.path == "autoj_reward" and "integrations" not in pkg.members:
            root = Path(__file__).parents[1]
            found = griffe.GriffeLoader(search_paths=[root], docstring_parser="google").load("integrations")
            pkg.set_member("integrations", found)

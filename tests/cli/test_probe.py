# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path

import pytest

from autoj_reward.errors import ConfigError
from tests.cli.conftest import Run, write_rows


def test_the_command_fails_where_an_attack_works(run: Run, tmp_path: Path) -> None:
    """The recorded judge obeys an order that no guard can make unreadable."""
    lines = [
        {"contains": ["Ignore the previous instructions"], "reading": {"9": 1.0}},
        {"contains": [], "reading": {"4": 1.0}},
    ]
    (tmp_path / "weak.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    rows = [{"prompt": f"Q{n}", "completion": "It is a tree."} for n in range(3)]
    write_rows(tmp_path / "in.jsonl", rows)
    options = ["probe", "--prompts", "in.jsonl", "--no-pairs", "--engine", "recorded:weak.jsonl"]
    result = run(*options, "-o", "probe.json", judge=False)
    assert result.exit_code == 1
    assert "order to the judge" in result.stderr
    kept = json.loads((tmp_path / "probe.json").read_text())
    order = next(a for a in kept["attacks"] if a["name"] == "order to the judge")
    assert order["on"]["net"]["value"] == 5.0
    assert order["on"]["flagged"] == 1.0
    page = json.loads(run("report", "probe.json", "--json", judge=False).stdout)
    assert {"judge", "mode", "engine", "versions", "date", "command"} <= page["about"].keys()
    (chart,) = (part for part in page["parts"] if part["id"] == "attacks-rating")
    assert chart["labels"][0] == "order to the judge"
    assert chart["series"]["guard on"] == [
        next(a["on"]["net"]["value"] for a in kept["attacks"] if a["name"] == name)
        for name in chart["labels"]
    ]
    assert chart["limits"] == {"limit 0.2": kept["limits"]["rating"]} == {"limit 0.2": 0.2}
    assert run(*options, "--most-gain", "5", judge=False).exit_code == 0


def test_a_probe_without_its_guard_is_refused(run: Run) -> None:
    with pytest.raises(ConfigError, match="off and on"):
        run("probe", "--no-guard")

# SPDX-License-Identifier: Apache-2.0
"""Requests made from the OpenAPI page, right and wrong ones: none may be a 500."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

with warnings.catch_warnings():
    # schemathesis and what it imports, about themselves.
    warnings.simplefilter("ignore")
    schemathesis = pytest.importorskip("schemathesis", reason="needs schemathesis: the dev group")

from hypothesis import HealthCheck, Phase, given, settings

from tests.conftest import REPO
from tests.serve.conftest import ANSWERS, started

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """What a running server says of itself."""
    path = Path(tmp_path_factory.mktemp("answers")) / "recorded.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in ANSWERS), encoding="utf-8")
    script = str(REPO / "benchmarks" / "paced_server.py")
    server = started([sys.executable, script, str(path), "--seconds", "0"])
    yield schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    assert server.stop()[0] == 0


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/rate"), ("POST", "/v1/compare"), ("POST", "/v1/rank"), ("POST", "/get_reward"),
        ("POST", "/remote_rm"),
        ("GET", "/health"), ("GET", "/ready"), ("GET", "/metrics"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("mode", ["POSITIVE", "NEGATIVE"])
def test_no_request_is_a_500_and_every_refusal_has_one_shape(
    api: Any, method: str, path: str, mode: str
) -> None:
    operation = api[path][method]
    seen = []
    if method == "GET" and mode == "NEGATIVE":
        pytest.skip("takes nothing that could be wrong")

    @given(case=operation.as_strategy(generation_mode=getattr(schemathesis.GenerationMode, mode)))
    @settings(
        max_examples=20,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def ask(case: Any) -> None:
        response = case.call()
        seen.append(response.status_code)
        # A deadline of milliseconds may pass; nothing else of the server's making may come.
        assert response.status_code < 500 or response.status_code == 504
        if response.status_code >= 400:
            assert set(response.json()) == {"error"}
            assert set(response.json()["error"]) == {"type", "message", "where"}

    ask()
    if method == "POST" and mode == "POSITIVE" and path != "/get_reward":
        assert 200 in seen

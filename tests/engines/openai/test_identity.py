# SPDX-License-Identifier: Apache-2.0
"""No answer of another server, or of another model behind the same address, as far as servers show it."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from autoj_reward.cache.store import JudgmentStore
from autoj_reward.engines.cached import CachedEngine
from autoj_reward.engines.openai.engine import ServerEngine
from autoj_reward.errors import ConfigError, EngineRejected
from autoj_reward.types import JudgeOutput
from tests.engines.openai.test_engine import NOT_FOUND, Answer, Body, item, serving


@dataclass
class Swapped:
    """A chat server whose model somebody changes; its text says which one wrote it."""

    name: str = "judge"
    writes: str = "one"
    entry: dict[str, Any] = field(default_factory=lambda: {"owned_by": "them", "root": "same"})
    answer: dict[str, Any] = field(default_factory=dict)
    n_written: int = 0
    after: Callable[[Swapped], None] = lambda server: None

    def __call__(self, path: str, body: Body, headers: Any) -> Answer:
        if path == "/v1/models":
            return 200, {"data": [{"id": self.name, **self.entry}]}
        if path != "/v1/chat/completions":
            return NOT_FOUND
        message = {"content": f"{self.writes}. Rating: [[1]]"}
        answer = 200, {"choices": [{"message": message, "finish_reason": "stop"}], **self.answer}
        if "Say 1." not in body["messages"][-1]["content"]:
            self.n_written += 1
            self.after(self)
        return answer


def written(url: str, cache: Path, **options: Any) -> str:
    """What a server writes about one input, through a cache."""
    engine = CachedEngine(ServerEngine(url, **options), JudgmentStore(cache))
    try:
        (output,) = engine.generate([item()])
    finally:
        engine.close()
    assert isinstance(output, JudgeOutput), output
    return output.text.partition(".")[0]


@pytest.fixture
def server() -> Iterator[tuple[Swapped, str]]:
    swapped = Swapped()
    with serving(swapped) as url:
        yield swapped, url


def test_two_servers_that_say_the_same_do_not_share_answers(tmp_path: Path) -> None:
    """What they say of their model took the place of their addresses."""
    cache = tmp_path / "a.sqlite"
    with serving(Swapped()) as one, serving(Swapped(writes="two")) as two:
        assert [written(one, cache), written(two, cache)] == ["one", "two"]


def test_a_fingerprint_by_the_user_stands_for_the_address(tmp_path: Path) -> None:
    cache = tmp_path / "a.sqlite"
    with serving(Swapped()) as one, serving(Swapped(writes="two")) as two:
        answers = [written(url, cache, fingerprint="mine") for url in (one, two)]
    assert answers == ["one", "one"]


CHANGES: dict[str, Callable[[Swapped], object]] = {
    "root in the list of models": lambda s: s.entry.update(root="other"),
    "meta in the list of models": lambda s: s.entry.update(meta={"n_params": 2}),
    "owner in the list of models": lambda s: s.entry.update(owned_by="others"),
    "name in the list of models": lambda s: setattr(s, "name", "other"),
    "model of an answer": lambda s: s.answer.update(model="other"),
    "a later dated model": lambda s: s.answer.update(model="judge-2026-01-01"),
    "system_fingerprint of an answer": lambda s: s.answer.update(system_fingerprint="fp_2"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_model_swapped_behind_one_address_ends_the_run(
    server: tuple[Swapped, str], tmp_path: Path, change: Callable[[Swapped], object]
) -> None:
    swapped, url = server
    swapped.answer.update(model="judge-2025-01-01", system_fingerprint="fp_1")
    store = JudgmentStore(tmp_path / "a.sqlite")
    engine = CachedEngine(ServerEngine(url), store)
    try:
        assert engine.generate([item("first")])
        change(swapped)
        swapped.writes = "two"
        with pytest.raises(
            EngineRejected, match=r"answered as|system_fingerprint|something else|has changed"
        ):
            engine.generate([item("second")])
    finally:
        engine.close()
    values = [record.value for record in store.records()]
    assert len(values) == 1
    assert b"two" not in values[0]


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_answers_of_a_swapped_model_are_not_served_to_the_next_run(
    server: tuple[Swapped, str], tmp_path: Path, change: Callable[[Swapped], object]
) -> None:
    swapped, url = server
    swapped.answer.update(model="judge-2025-01-01", system_fingerprint="fp_1")
    cache = tmp_path / "a.sqlite"
    assert written(url, cache) == "one"
    change(swapped)
    swapped.writes = "two"
    if swapped.name == "other":
        swapped.answer["model"] = "other"
    if (swapped.name, swapped.answer["model"]) == ("judge", "other"):
        with pytest.raises(ConfigError, match="answers as 'other'"):
            written(url, cache)
    else:
        assert written(url, cache) == "two"


def test_a_swap_during_a_call_keeps_none_of_its_answers(server: tuple[Swapped, str], tmp_path: Path) -> None:
    """The list of models is read after the answers, and before they are kept."""
    swapped, url = server

    def swap(s: Swapped) -> None:
        s.entry["root"] = "other"

    swapped.after = swap
    store = JudgmentStore(tmp_path / "a.sqlite")
    engine = CachedEngine(ServerEngine(url), store)
    try:
        with pytest.raises(EngineRejected, match="root"):
            engine.generate([item()])
    finally:
        engine.close()
    assert not list(store.records())


def test_an_answer_that_names_another_model_is_refused(server: tuple[Swapped, str], tmp_path: Path) -> None:
    swapped, url = server
    swapped.answer["model"] = "a-much-smaller-one"
    with pytest.raises(ConfigError, match="'judge' and answers as 'a-much-smaller-one'"):
        written(url, tmp_path / "a.sqlite")


def test_systems_may_differ_where_the_user_vouches_for_them(
    server: tuple[Swapped, str], tmp_path: Path
) -> None:
    swapped, url = server
    swapped.answer["system_fingerprint"] = "fp_1"
    swapped.after = lambda s: s.answer.update(system_fingerprint=f"fp_{s.n_written}")
    engine = ServerEngine(url, fingerprint="mine")
    try:
        assert len(engine.generate([item("a"), item("b"), item("c")])) == 3
    finally:
        engine.close()


def test_a_server_that_is_silent_after_its_answers_loses_none_of_them(tmp_path: Path) -> None:
    swapped = Swapped()
    silent = False

    def serve(path: str, body: Body, headers: Any) -> Answer:
        return (503, {}) if silent and path == "/v1/models" else swapped(path, body, headers)

    def fall_silent(_: Swapped) -> None:
        nonlocal silent
        silent = True

    swapped.after = fall_silent
    with serving(serve) as url:
        assert written(url, tmp_path / "a.sqlite", retry_seconds=1.0) == "one"


def test_describe_says_who_serves(server: tuple[Swapped, str]) -> None:
    swapped, url = server
    swapped.answer.update(model="judge", system_fingerprint="fp_1")
    engine = ServerEngine(url)
    try:
        assert engine.describe()["fingerprint"] is None
        assert pickle.loads(pickle.dumps(engine)).fingerprint == engine.fingerprint
        facts = engine.describe()["facts"]
    finally:
        engine.close()
    assert facts["endpoints"] == [f"{url}/v1"]
    assert (facts["served model"], facts["answers as"]) == ("judge", "judge")
    assert facts["system fingerprint"] == "fp_1"


@pytest.mark.parametrize(
    ("asked", "said", "same"),
    [
        ("gpt-4o", "gpt-4o", True),
        ("gpt-4o", "gpt-4o-2024-08-06", True),
        ("gpt-4o", "gpt-4o-mini", False),
        ("gpt-4o", "gpt-4o-mini-2024-07-18", False),
        ("gpt-4", "gpt-4-0613", True),
        ("gpt-4", "gpt-4o", False),
        ("claude-3-5-sonnet-latest", "claude-3-5-sonnet-20241022", True),
        ("gemini-2.5-flash", "gemini-2.5-flash-preview-04-17", True),
        ("openai/gpt-4o", "gpt-4o-2024-08-06", True),
        ("org/judge", "other/judge", False),
        ("llama3", "llama3:latest", True),
        ("llama3", "llama3:70b", False),
        ("judge", "judge-2", False),
        ("judge-2024-08-06", "judge-2024-11-20", False),
    ],
)
def test_dated_names_are_the_model_that_was_asked(asked: str, said: str, same: bool) -> None:
    from autoj_reward.engines.openai.identity import is_alias

    assert is_alias(asked, said) is same

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pickle
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from autoj_reward.cache import leases
from autoj_reward.cache.key import parts_of
from autoj_reward.cache.maintenance import stats, verify
from autoj_reward.cache.store import JudgmentStore
from autoj_reward.engines import Engine, cached, engine_stats, load_engine
from autoj_reward.engines.cached import CachedEngine
from autoj_reward.engines.chains import Chain, in_rounds
from autoj_reward.engines.lazy import LazyEngine
from autoj_reward.errors import ConfigError, EngineContractBroken, EngineUnavailable, StoreError
from autoj_reward.testing import ScriptedEngine
from autoj_reward.types import (
    Answered,
    ContinuationQuery,
    Failure,
    FailureReason,
    Follow,
    JudgeInput,
    JudgeOutput,
    PlainWrapper,
    Sampling,
    Segment,
)
from tests.engines.contract import check_closing
from tests.engines.drawing import DrawingEngine
from tests.hostile import LOOK_ALIKES

READOUT = ContinuationQuery(verdict_prefix="Rating: [[", continuations=("1", "2", "10"), terminators=("]",))
WRAPPER = PlainWrapper(before="[INST] ", after=" [/INST]")


def question(
    text: str, *, draw: int = 0, temperature: float = 0.0, readout: ContinuationQuery | None = None
) -> JudgeInput:
    return JudgeInput(
        body=(Segment("Judge: ", True), Segment(text)),
        wrapper=WRAPPER,
        sampling=Sampling(temperature=temperature, max_new_tokens=9),
        sample_index=draw,
        readout=readout,
    )


@pytest.fixture
def store(tmp_path: Path) -> Iterator[JudgmentStore]:
    made = JudgmentStore(tmp_path / "judgments.sqlite")
    yield made
    made.close()


def texts(answers: list[JudgeOutput | Failure]) -> list[str]:
    assert all(isinstance(a, JudgeOutput) for a in answers), answers
    return [a.text for a in answers if isinstance(a, JudgeOutput)]


def test_it_is_an_engine(store: JudgmentStore) -> None:
    inner = DrawingEngine()
    cached = CachedEngine(inner, store)
    assert isinstance(cached, Engine)
    assert cached.fingerprint == inner.fingerprint
    assert cached.generate([]) == []
    check_closing(cached)
    assert inner.n_closed == 2


def test_an_answer_is_paid_for_once(store: JudgmentStore) -> None:
    inner = DrawingEngine()
    items = [question(str(n), readout=READOUT if n % 2 else None) for n in range(20)]
    first = CachedEngine(inner, store).generate(items)
    again = CachedEngine(inner, store)
    assert again.generate(items[::-1]) == first[::-1]
    assert inner.n_inputs == 20
    assert (again.stats.n_cached, again.stats.n_asked) == (20, 0)


def test_equal_inputs_of_one_call_reach_the_engine_once_in_order(store: JudgmentStore) -> None:
    inner = DrawingEngine()
    items = [question(t) for t in ("a", "b", "a", "c", "b")]
    one, two, three, four, five = texts(CachedEngine(inner, store).generate(items))
    assert (one, two) == (three, five)
    assert len({one, two, four}) == 3
    assert [[i.body[1].text for i in call] for call in inner.calls] == [["a", "b", "c"]]


def test_draws_stay_draws(store: JudgmentStore) -> None:
    inner = DrawingEngine()
    draws = [question("a", draw=k, temperature=1.0) for k in range(4)]
    first = texts(CachedEngine(inner, store).generate(draws))
    assert len(set(first)) == 4
    assert texts(CachedEngine(inner, store).generate(draws[2:])) == first[2:]
    assert inner.n_inputs == 4


def test_failures_are_never_kept(store: JudgmentStore) -> None:
    """A refusal that was cached for ever is the peers' commonest bug."""
    inner = DrawingEngine()
    items = [question("good"), question("too long"), question("too long")]
    for _ in range(2):
        answers = CachedEngine(inner, store).generate(items)
        assert [isinstance(a, Failure) for a in answers] == [False, True, True]
    assert [len(call) for call in inner.calls] == [2, 1]
    assert len(list(store.records())) == 1


def test_unreadable_and_truncated_texts_are_kept(store: JudgmentStore) -> None:
    cut = ScriptedEngine(
        write=JudgeOutput(text="no ver", finish_reason="length", thinking="hm\ud800"), fingerprint="drawing"
    )
    answer = CachedEngine(cut, store).generate([question("a")])
    assert CachedEngine(DrawingEngine(), store).generate([question("a")]) == answer


def test_hostile_texts_come_back_as_they_were(store: JudgmentStore) -> None:
    items = [question(text) for text in LOOK_ALIKES if "too long" not in text]
    first = CachedEngine(DrawingEngine(), store).generate(items)
    assert CachedEngine(DrawingEngine(), store).generate(items) == first


def test_every_chunk_is_kept_before_the_next_is_asked(store: JudgmentStore) -> None:
    inner = DrawingEngine()
    items = [question(str(n)) for n in range(10)]
    items[7] = question("outage")
    with pytest.raises(EngineUnavailable):
        CachedEngine(inner, store, chunk=3).generate(items)
    assert len(list(store.records())) == 6
    assert stats(store).n_leases == 0
    inner.calls.clear()
    items[7] = question("7")
    CachedEngine(inner, store, chunk=3).generate(items)
    assert [[i.body[1].text for i in call] for call in inner.calls] == [["6", "7", "8"], ["9"]]


@pytest.mark.parametrize(
    ("seconds_each", "sizes"), [(0.001, [64, 128, 256, 152]), (1.0, [64, 32, 32, 32]), (0.3, [64] * 4)]
)
@pytest.mark.parametrize("chains", [False, True])
def test_chunks_are_as_large_as_the_engine_is_fast(
    seconds_each: float, sizes: list[int], chains: bool, store: JudgmentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A judge that takes seconds for each rating lost up to 512 of them when it was stopped."""
    now = 0.0

    class Slow(DrawingEngine):
        def generate(self, inputs: Sequence[JudgeInput]) -> list[JudgeOutput | Failure]:
            nonlocal now
            now += seconds_each * len(inputs)
            return super().generate(inputs)

    monkeypatch.setattr(cached, "time", SimpleNamespace(monotonic=lambda: now, sleep=time.sleep))
    inner = Slow()
    engine = CachedEngine(inner, store)
    items = [question(str(n)) for n in range(600)]
    if chains:
        engine.generate_chains(items, lambda answered: [None] * len(answered))
    else:
        engine.generate(items)
    assert [len(call) for call in inner.calls][: len(sizes)] == sizes
    assert inner.n_inputs == len(items)


def test_a_broken_engine_leaves_nothing_behind(store: JudgmentStore) -> None:
    class Short(DrawingEngine):
        def generate(self, inputs: object) -> list[JudgeOutput | Failure]:
            return []

    with pytest.raises(EngineContractBroken, match="returned 0 outputs for 1 inputs"):
        CachedEngine(Short(), store).generate([question("a")])
    assert list(store.records()) == []
    assert stats(store).n_leases == 0


def test_threads_that_ask_at_once_share_the_answers(store: JudgmentStore) -> None:
    inner = DrawingEngine(seconds=0.05)
    items = [question(str(n)) for n in range(30)]
    together = threading.Barrier(6)

    def ask(shift: int) -> dict[str, str]:
        turned = items[shift:] + items[:shift]
        together.wait()
        answers = CachedEngine(inner, store, chunk=5).generate(turned)
        return dict(zip((i.body[1].text for i in turned), texts(answers), strict=True))

    with ThreadPoolExecutor(6) as pool:
        results = list(pool.map(ask, [0, 0, 5, 11, 17, 29]))
    assert all(result == results[0] for result in results)
    assert inner.n_inputs == 30


def test_a_caller_asks_itself_after_the_lease_holder_gives_up(store: JudgmentStore) -> None:
    """A caller that waited for a lease whose holder failed once waited for ever."""
    item = question("a")
    (part,) = parts_of([item], "drawing")
    holder = leases.new_owner()
    store.claim([part.key], holder)
    inner = DrawingEngine()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(CachedEngine(inner, store).generate, [item])
        assert not inner.calls
        store.release([part.key], holder)
        assert texts(waiting.result(timeout=30)) == ["0: Judge: a"]


def test_no_lease_is_held_while_waiting(store: JudgmentStore) -> None:
    """Two callers, each holding what the other wants, once waited for each other."""
    held, free = question("held"), question("free")
    (part,) = parts_of([held], "drawing")
    holder = leases.new_owner()
    store.claim([part.key], holder)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(CachedEngine(DrawingEngine(), store).generate, [held, free])
        other = CachedEngine(DrawingEngine(), store).generate([free])
        store.release([part.key], holder)
        assert waiting.result(timeout=30)[1] == other[0]


def test_refresh_asks_again_and_replaces(store: JudgmentStore) -> None:
    inner = DrawingEngine()
    items = [question("a"), question("b")]
    first = texts(CachedEngine(inner, store).generate(items))
    fresh = texts(CachedEngine(inner, store, refresh=True).generate(items[:1]))
    assert fresh != first[:1]
    assert texts(CachedEngine(inner, store).generate(items)) == [fresh[0], first[1]]


def test_engines_do_not_share_answers(store: JudgmentStore) -> None:
    one, other = DrawingEngine("one"), DrawingEngine("other")
    CachedEngine(one, store).generate([question("a")])
    CachedEngine(other, store).generate([question("a")])
    assert (one.n_inputs, other.n_inputs) == (1, 1)


def test_the_engine_behind_a_fingerprint_is_recorded(store: JudgmentStore) -> None:
    class Named(DrawingEngine):
        model_name = "ORG/judge"

    CachedEngine(LazyEngine(Named), store).generate([question("a"), question("b", readout=READOUT)])
    (engine,) = stats(store).engines
    assert engine.names == ("Named ORG/judge",)
    assert (engine.n_texts, engine.n_readings) == (1, 1)


def test_a_damaged_store_is_an_error_not_a_miss(store: JudgmentStore) -> None:
    inner = DrawingEngine()
    CachedEngine(inner, store).generate([question("a")])
    with store.database.writing() as connection:
        connection.execute("UPDATE judgments SET checksum = checksum + 1")
    with pytest.raises(StoreError, match="damaged"):
        CachedEngine(inner, store).generate([question("a")])
    assert inner.n_inputs == 1


def test_records_say_what_they_answer(store: JudgmentStore) -> None:
    item = question("a", readout=READOUT)
    item = replace(item, prefill=(Segment("So "), Segment(READOUT.verdict_prefix, True)))
    CachedEngine(DrawingEngine(), store).generate([item])
    (record,) = store.records()
    (part,) = parts_of([item], "drawing")
    assert (record.key, record.setup, record.prefill, record.draw) == tuple(part)
    assert list(verify(store)) == [None]
    assert record.setup.described()["settings.continuations"] == ["1", "2", "10"]


# Engines built late


def test_a_warm_run_builds_no_engine(store: JudgmentStore) -> None:
    CachedEngine(DrawingEngine(), store).generate([question("a")])
    lazy = LazyEngine(DrawingEngine, lambda: "drawing")
    cached = CachedEngine(lazy, store)
    cached.generate([question("a")])
    assert not lazy.is_built
    cached.generate([question("a"), question("b")])
    assert lazy.is_built


def test_an_unknown_fingerprint_is_asked_of_the_engine(store: JudgmentStore) -> None:
    lazy = LazyEngine(DrawingEngine, lambda: None)
    assert lazy.fingerprint == "drawing"
    assert lazy.is_built


def test_an_engine_that_is_not_what_was_predicted_is_refused(store: JudgmentStore) -> None:
    """Its answers would be kept under another model's name."""
    cached = CachedEngine(LazyEngine(DrawingEngine, lambda: "another"), store)
    with pytest.raises(ConfigError, match="fingerprint is drawing, predicted was another"):
        cached.generate([question("a")])
    assert list(store.records()) == []


def test_a_late_engine_closes(store: JudgmentStore) -> None:
    lazy = LazyEngine(DrawingEngine, lambda: "drawing")
    check_closing(CachedEngine(lazy, store))
    lazy.close()
    assert not lazy.is_built


def test_a_cached_engine_is_as_picklable_as_its_inner_one(store: JudgmentStore) -> None:
    """Trainers send rewards to other processes."""
    from autoj_reward.engines.recorded import RecordedEngine

    path = store.path.with_name("recorded.jsonl")
    path.write_text('{"contains": [], "text": "fine"}\n')
    first = CachedEngine(RecordedEngine(path), store)
    copy = pickle.loads(pickle.dumps(first))
    assert first.generate([question("a")]) == copy.generate([question("a")])
    assert copy.stats.n_cached == 1


def test_wrappers_answer_for_the_engine_inside_them(tmp_path: Path) -> None:
    lazy = LazyEngine(lambda: CachedEngine(DrawingEngine(), JudgmentStore(tmp_path / "inner.sqlite")))
    assert engine_stats(lazy) is None
    assert not lazy.is_built
    outer = CachedEngine(lazy, JudgmentStore(tmp_path / "outer.sqlite"))
    load_engine(outer)
    assert lazy.is_built
    outer.generate([question("a"), question("b")])
    outer.generate([question("a")])
    outer_stats, inner_stats = engine_stats(outer), engine_stats(lazy)
    assert outer_stats is not None
    assert (outer_stats.n_cached, outer_stats.n_asked) == (1, 2)
    assert inner_stats is not None
    assert (inner_stats.n_cached, inner_stats.n_asked) == (0, 2)
    assert inner_stats.usage == outer_stats.usage
    assert engine_stats(DrawingEngine()) is None


class ChainingEngine(DrawingEngine):
    """Asks what follows from each answer before the next input."""

    def generate_chains(self, inputs: Sequence[JudgeInput], follow: Follow) -> list[Chain]:
        chains: list[Chain] = []
        for n, item in enumerate(inputs):
            (chain,) = in_rounds(
                self, [item], lambda done, n=n: follow([(n, answers) for _, answers in done])
            )
            chains.append(chain)
        return chains


@pytest.mark.parametrize("inner", [DrawingEngine, ChainingEngine])
def test_chains_pay_for_every_answer_once(store: JudgmentStore, inner: type[DrawingEngine]) -> None:
    """Readings that follow are stored with the critiques; equal draws share one."""
    inputs = [question(text) for text in ("a", "b", "a", "c")]

    def follow(answered: Sequence[Answered]) -> list[JudgeInput | None]:
        return [
            None if n == 1 or len(answers) == 2 else question(f"verdict of {n % 2}", readout=READOUT)
            for n, answers in answered
        ]

    engine = CachedEngine(inner(), store, chunk=2)
    first, again = (engine.generate_chains(inputs, follow) for _ in range(2))
    assert [len(chain) for chain in first] == [2, 1, 2, 2]
    assert first[0] == first[2]
    assert again == first
    # Three critiques and two readings.
    assert engine.stats.n_asked == 5
    assert engine.stats.n_cached == 2 * 7 - 5
    assert stats(store).n_leases == 0


def test_chains_that_fail_halfway_leave_no_lease(store: JudgmentStore) -> None:
    def follow(answered: Sequence[Answered]) -> list[JudgeInput | None]:
        raise KeyError

    engine = CachedEngine(DrawingEngine(), store)
    with pytest.raises(KeyError):
        engine.generate_chains([question("a")], follow)
    assert stats(store).n_leases == 0


@pytest.mark.parametrize(("inner", "n_steps"), [(DrawingEngine, 1), (ChainingEngine, 4)])
def test_what_follows_from_a_step_is_claimed_together(
    store: JudgmentStore, inner: type[DrawingEngine], n_steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A transaction for each input once took longer than all else between two steps of the engine."""
    claimed: list[int] = []
    claim = store.claim

    def counted(keys: Iterable[bytes], owner: str, **options: bool) -> leases.Claim:
        claimed.append(len(list(keys)))
        return claim(keys, owner, **options)

    def follow(answered: Sequence[Answered]) -> list[JudgeInput | None]:
        return [question(f"verdict of {n}", readout=READOUT) if len(a) == 1 else None for n, a in answered]

    monkeypatch.setattr(store, "claim", counted)
    CachedEngine(inner(), store).generate_chains([question(str(n)) for n in range(4)], follow)
    assert claimed == [4, *[4 // n_steps] * n_steps]


def test_a_chain_that_fails_is_asked_for_once_and_not_kept(store: JudgmentStore) -> None:
    inner = DrawingEngine()

    def follow(answered: Sequence[Answered]) -> list[JudgeInput | None]:
        return [None if isinstance(a[-1], Failure) or len(a) == 2 else question("then") for _, a in answered]

    engine = CachedEngine(inner, store)
    chains = engine.generate_chains([question("too long"), question("fine")], follow)
    assert [[isinstance(a, Failure) for a in chain] for chain in chains] == [[True], [False, False]]
    assert (inner.n_inputs, engine.stats.n_asked, engine.stats.n_cached) == (3, 3, 0)
    assert len(list(store.records())) == 2


def test_copies_of_an_input_have_one_answer_even_if_the_engine_fails_once(store: JudgmentStore) -> None:
    class FailingOnce(DrawingEngine):
        failed = False

        def generate(self, inputs: Sequence[JudgeInput]) -> list[JudgeOutput | Failure]:
            answers = super().generate(inputs)
            if not self.failed:
                self.failed = True
                return [Failure(reason=FailureReason.ENGINE, detail="once")] * len(answers)
            return answers

    engine = CachedEngine(FailingOnce(), store)
    first, second = engine.generate_chains([question("a")] * 2, lambda answered: [None] * len(answered))
    assert first == second
    assert (engine.stats.n_asked, engine.stats.n_cached) == (2, 1)


def test_what_others_are_asking_is_left_to_them(store: JudgmentStore) -> None:
    """Of what follows together, only what is claimed goes to the engine; the rest is waited for."""
    inner = DrawingEngine()
    readings = [question(f"verdict of {n}", readout=READOUT) for n in range(3)]
    (held,) = parts_of(readings[:1], "drawing")
    holder = leases.new_owner()
    store.claim([held.key], holder)

    def follow(answered: Sequence[Answered]) -> list[JudgeInput | None]:
        return [readings[n] if len(answers) == 1 else None for n, answers in answered]

    with ThreadPoolExecutor(1) as pool:
        ours = CachedEngine(inner, store)
        waiting = pool.submit(ours.generate_chains, [question(str(n)) for n in range(3)], follow)
        while len(list(store.records())) < 5:
            assert not waiting.done()
        assert readings[0] not in [item for call in inner.calls for item in call]
        store.release([held.key], holder)
        chains = waiting.result(timeout=30)
    assert [len(chain) for chain in chains] == [2, 2, 2]
    assert inner.n_inputs == 6
    assert stats(store).n_leases == 0

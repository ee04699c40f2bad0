# SPDX-License-Identifier: Apache-2.0
"""Forks while the cache is open: SQLite's locks live half in the process and half in the kernel."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from autoj_reward.cache.maintenance import verify
from autoj_reward.cache.store import JudgmentStore
from tests.cache.test_store import parts, value

# Later Pythons warn of forks while other threads run: that is what is tested here.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning")


def in_child(work: Callable[[], None]) -> int:
    """Run in a forked child that ends as Python ends, destructors included; its process id."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        work()
        code = 0
    finally:
        sys.stderr.flush()
        os._exit(code)


def exit_code(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.slow
def test_children_of_a_process_whose_threads_write(tmp_path: Path) -> None:
    """A child once inherited another thread's write lock, which was never given back."""
    store = JudgmentStore(tmp_path / "a.sqlite", busy_seconds=20)
    done = threading.Event()
    written: list[int] = []

    def write(first: int) -> None:
        number = first
        while not done.is_set():
            store.put([(parts(number), value("parent" * 300))])
            written.append(number)
            number += 1

    threads = [threading.Thread(target=write, args=(n * 100_000,)) for n in (1, 2)]
    for thread in threads:
        thread.start()
    try:
        for n in range(8):

            def work(first: int = 1000 * n) -> None:
                for i in range(first, first + 5):
                    store.put([(parts(i), value("child"))])
                assert len(store.get([parts(i).key for i in range(first, first + 5)])) == 5

            assert exit_code(in_child(work)) == 0
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert list(verify(store)) == [None] * (len(written) + 40)


def test_a_child_outlives_its_parent_and_siblings(tmp_path: Path) -> None:
    """Without locks of its own, a child's log was deleted by the process that closed the file last."""
    store = JudgmentStore(tmp_path / "a.sqlite")
    store.put([(parts(0), value("before"))])
    go, went = os.pipe()

    def work() -> None:
        store.put([(parts(1), value("child, early"))])
        os.read(go, 1)
        store.put([(parts(2), value("child, late"))])

    child = in_child(work)
    while not store.get([parts(1).key]):
        pass
    # The last connection that the kernel knows of, unless the child has its own.
    store.close()
    JudgmentStore(tmp_path / "a.sqlite").close()
    os.write(went, b"x")
    assert exit_code(child) == 0
    assert len(JudgmentStore(tmp_path / "a.sqlite").get([parts(n).key for n in range(3)])) == 3


def test_a_fork_in_the_middle_of_a_transaction_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = JudgmentStore(tmp_path / "a.sqlite")
    with store.database.writing() as connection:
        connection.execute("DELETE FROM leases")
        assert exit_code(in_child(lambda: None)) == 0
    assert "forked while the cache was in use" in caplog.text
    store.put([(parts(0), value("after"))])
    assert list(verify(store)) == [None]

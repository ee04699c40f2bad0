# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import multiprocessing
import os
import pickle
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from autoj_reward.cache import leases
from autoj_reward.cache.codec import encode
from autoj_reward.cache.database import file_system, is_network
from autoj_reward.cache.key import Parts, parts_of
from autoj_reward.cache.maintenance import prune, remove, stats, verify
from autoj_reward.cache.migrations import newest
from autoj_reward.cache.store import JudgmentStore, default_path
from autoj_reward.errors import ConfigError, StoreError
from autoj_reward.types import JudgeInput, JudgeOutput, PlainWrapper, Segment

WRAPPER = PlainWrapper()

# Later Pythons warn of forks while other threads run; here only the fork's own thread touches the store.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning")


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes that are spawned import this file by name."""
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[2]))


def parts(number: int, fingerprint: str = "engine") -> Parts:
    item = JudgeInput(body=(Segment(f"text {number}"),), wrapper=WRAPPER)
    return parts_of([item], fingerprint)[0]


def value(text: str) -> bytes:
    return encode(JudgeOutput(text=text, finish_reason="stop"), None)


def filled(path: Path, n: int = 100, n_chars: int = 2000) -> JudgmentStore:
    store = JudgmentStore(path)
    store.put([(parts(i), value(f"{i} " + "x" * n_chars)) for i in range(n)])
    return store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[JudgmentStore]:
    made = JudgmentStore(tmp_path / "folder" / "judgments.sqlite")
    yield made
    made.close()


def test_get_returns_what_was_put_and_no_other_record(store: JudgmentStore) -> None:
    store.put([(parts(i), value(f"answer {i}")) for i in range(3)])
    found = store.get([parts(i).key for i in range(5)])
    assert found == {parts(i).key: value(f"answer {i}") for i in range(3)}


def test_the_first_write_wins_and_the_second_writer_hears_of_it(store: JudgmentStore) -> None:
    assert store.put([(parts(1), value("first"))]) == {}
    assert store.put([(parts(1), value("second")), (parts(2), value("new"))]) == {
        parts(1).key: value("first")
    }
    assert store.put([(parts(1), value("first"))]) == {}
    assert store.get([parts(1).key]) == {parts(1).key: value("first")}


def test_replacing_is_possible_where_it_is_asked_for(store: JudgmentStore) -> None:
    store.put([(parts(1), value("first"))])
    store.put([(parts(1), value("second"))], replace=True)
    assert store.get([parts(1).key]) == {parts(1).key: value("second")}


def test_the_path_is_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOJ_REWARD_CACHE", str(tmp_path / "mine.sqlite"))
    assert default_path() == tmp_path / "mine.sqlite"
    monkeypatch.delenv("AUTOJ_REWARD_CACHE")
    monkeypatch.setenv("AUTOJ_REWARD_HOME", str(tmp_path / "home"))
    assert default_path() == tmp_path / "home" / "judgments.sqlite"


def test_a_cache_moves_to_another_machine_as_a_file(tmp_path: Path) -> None:
    store = filled(tmp_path / "here.sqlite")
    store.close()
    shutil.copy(tmp_path / "here.sqlite", tmp_path / "there.sqlite")
    moved = JudgmentStore(tmp_path / "there.sqlite")
    assert len(moved.get([parts(i).key for i in range(100)])) == 100
    assert list(verify(moved)) == [None] * 100


@pytest.mark.slow
def test_no_torch_is_needed() -> None:
    code = "import sys, autoj_reward.engines.cached; print('torch' in sys.modules, 'pyarrow' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == ["False", "False"]


# Threads, processes, forks


def test_many_threads_and_new_connections(store: JudgmentStore) -> None:
    def work(n: int) -> int:
        store.put([(parts(n * 10 + i), value(str(n))) for i in range(10)])
        return len(store.get([parts(i).key for i in range(n * 10, n * 10 + 10)]))

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(work, range(40))) == [10] * 40
    assert list(verify(store)) == [None] * 400


def _write_range(path: Path, network: bool | None, first: int) -> None:
    store = JudgmentStore(path, network=network)
    for i in range(first, first + 60):
        store.put([(parts(i), value(f"{first}"))])


@pytest.mark.parametrize("network", [False, True], ids=["write-ahead log", "network file system"])
@pytest.mark.slow
def test_many_processes_make_and_fill_one_file(tmp_path: Path, network: bool) -> None:
    """They all meet a file that is not there yet; none may meet 'database is locked'."""
    path = tmp_path / "judgments.sqlite"
    spawn = multiprocessing.get_context("spawn")
    workers = [spawn.Process(target=_write_range, args=(path, network, n * 50)) for n in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert [worker.exitcode for worker in workers] == [0] * 4
    store = JudgmentStore(path, network=network)
    assert list(verify(store)) == [None] * 210
    assert (tmp_path / "judgments.sqlite-wal").exists() is not network


def test_a_forked_child_has_its_own_connection(store: JudgmentStore) -> None:
    """A connection carried over a fork once took the parent's locks away when the child closed it."""
    store.put([(parts(0), value("parent"))])
    child = os.fork()
    if child == 0:
        try:
            store.put([(parts(1), value("child"))])
            store.close()
            os._exit(0 if len(store.get([parts(0).key, parts(1).key])) == 2 else 1)
        except BaseException:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    store.put([(parts(2), value("parent"))])
    assert len(store.get([parts(i).key for i in range(3)])) == 3


def test_a_store_is_pickled_by_path(store: JudgmentStore) -> None:
    store.put([(parts(0), value("here"))])
    copy = pickle.loads(pickle.dumps(store))
    assert copy.get([parts(0).key]) == {parts(0).key: value("here")}


def test_threads_leave_no_connections_behind(store: JudgmentStore) -> None:
    def n_files() -> int:
        return len(os.listdir("/proc/self/fd"))

    store.get([])
    before = n_files()
    for _ in range(20):
        thread = threading.Thread(target=store.get, args=([b"k"],))
        thread.start()
        thread.join()
    assert n_files() <= before + 2


# Leases


def test_a_lease_parts_callers(store: JudgmentStore) -> None:
    keys = [parts(i).key for i in range(3)]
    one, other = leases.new_owner(), leases.new_owner()
    store.put([(parts(0), value("stored"))])
    assert store.claim(keys[:2], one) == leases.Claim(frozenset({keys[1]}), frozenset({keys[0]}), frozenset())
    assert store.claim(keys, other) == leases.Claim(
        frozenset({keys[2]}), frozenset({keys[0]}), frozenset({keys[1]})
    )
    store.put([(parts(1), value("judged"))], owner=one, settled=[keys[1]])
    store.release([keys[2]], other)
    assert store.claim(keys, one).mine == {keys[2]}


def test_only_the_owner_releases_a_lease(store: JudgmentStore) -> None:
    key = parts(0).key
    one, other = leases.new_owner(), leases.new_owner()
    store.claim([key], one)
    store.release([key], other)
    assert store.claim([key], other).taken == {key}


def test_a_lease_runs_out_unless_it_is_renewed(store: JudgmentStore) -> None:
    key = parts(0).key
    one, other = leases.new_owner(), leases.new_owner()
    store.claim([key], one)
    _set_expiry(store, time.time() - 1)
    store.renew(one)
    assert store.claim([key], other).taken == {key}
    _set_expiry(store, time.time() - 1)
    assert store.claim([key], other).mine == {key}


def test_a_clock_that_was_set_back_leaves_no_lease_for_ever(store: JudgmentStore) -> None:
    key = parts(0).key
    store.claim([key], leases.new_owner())
    _set_expiry(store, time.time() + 86_400)
    assert store.claim([key], leases.new_owner()).mine == {key}


def _claim_and_die(path: Path, key: bytes) -> None:
    JudgmentStore(path).claim([key], leases.new_owner())
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
def test_the_lease_of_a_killed_process_is_void_at_once(store: JudgmentStore) -> None:
    key = parts(0).key
    victim = multiprocessing.get_context("spawn").Process(target=_claim_and_die, args=(store.path, key))
    victim.start()
    victim.join(60)
    assert victim.exitcode == -signal.SIGKILL
    assert store.claim([key], leases.new_owner()).mine == {key}


def test_the_lease_of_another_machine_holds(store: JudgmentStore) -> None:
    """Its process ids mean nothing here."""
    key = parts(0).key
    _, pid, started, call = leases.new_owner().split("|")
    store.claim([key], f"another-boot/pid:[1]|{int(pid) + 10**7}|{started}|{call}")
    assert store.claim([key], leases.new_owner()).taken == {key}


def _set_expiry(store: JudgmentStore, when: float) -> None:
    with store.database.writing() as connection:
        connection.execute("UPDATE leases SET expires = ?", (when,))


# What can go wrong with the file


def test_a_newer_file_is_left_alone(tmp_path: Path) -> None:
    filled(tmp_path / "a.sqlite").close()
    with sqlite3.connect(tmp_path / "a.sqlite") as raw:
        raw.execute(f"PRAGMA user_version = {newest() + 1}")
    raw.close()
    with pytest.raises(StoreError, match=r"newer version[\s\S]*hint: upgrade"):
        JudgmentStore(tmp_path / "a.sqlite")


def test_migrations_are_named(store: JudgmentStore) -> None:
    with store.database.reading() as connection:
        assert [row[0] for row in connection.execute("SELECT name FROM migrations")] == ["0001_judgments"]
        assert connection.execute("PRAGMA user_version").fetchone() == (newest(),)


def test_another_programs_file_is_left_alone(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "a.sqlite") as raw:
        raw.execute("CREATE TABLE theirs (x)")
    raw.close()
    before = (tmp_path / "a.sqlite").read_bytes()
    with pytest.raises(StoreError, match="not a cache of judgments"):
        JudgmentStore(tmp_path / "a.sqlite")
    assert (tmp_path / "a.sqlite").read_bytes() == before


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "a.sqlite").write_text("notes\n" * 1000)
    with pytest.raises(StoreError, match="not a database"):
        JudgmentStore(tmp_path / "a.sqlite")


@pytest.mark.parametrize("path", ["/proc/none/judgments.sqlite", "/dev/null/judgments.sqlite"])
def test_a_folder_that_cannot_be_made(path: str) -> None:
    with pytest.raises(StoreError, match=r"cannot be created[\s\S]*--no-cache"):
        JudgmentStore(path)


def _let_others_in(tmp_path: Path) -> None:
    """Other users may enter the folder: pytest makes it, and those above it, its own user's alone."""
    for path in (tmp_path, *tmp_path.parents):
        if path.stat().st_mode & 0o055 != 0o055 and path.owner() == tmp_path.owner():
            path.chmod(path.stat().st_mode | 0o055)


def _without_rights(work: Callable[[], None]) -> str:
    """Run in a child without root's rights; the StoreError's text, or an empty one."""
    reads, writes = os.pipe()
    child = os.fork()
    if child == 0:
        message = "no StoreError"
        try:
            if os.getuid() == 0:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
            work()
        except StoreError as error:
            message = str(error)
        except BaseException as error:
            message = repr(error)
        os.write(writes, message.encode()[:4000])
        os._exit(0)
    os.close(writes)
    with open(reads, encoding="utf-8") as pipe:
        message = pipe.read()
    os.waitpid(child, 0)
    return message


def test_a_read_only_folder(tmp_path: Path) -> None:
    folder = tmp_path / "shared"
    folder.mkdir()
    filled(folder / "a.sqlite").close()
    _let_others_in(tmp_path)
    folder.chmod(0o555)
    (folder / "a.sqlite").chmod(0o444)
    for name in ("a.sqlite", "new.sqlite"):
        message = _without_rights(lambda name=name: filled(folder / name, 1).close())  # type: ignore[misc]
        assert "AUTOJ_REWARD_CACHE" in message, message
        assert "--no-cache" in message


def _fill_until_error(path: Path) -> None:
    store = JudgmentStore(path)
    for i in range(10_000):
        store.put([(parts(i), value("x" * 2000))])


@pytest.mark.slow
def test_a_full_disk(tmp_path: Path) -> None:
    """A real file system of 2 MB, where mounting one is allowed; what was kept before stays readable."""
    if os.getuid() != 0 or shutil.which("mount") is None:
        pytest.skip("needs the right to mount a small file system")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", tmp_path], check=False, timeout=10
    )
    if mounted.returncode:
        pytest.skip("needs the right to mount a small file system")
    try:
        with pytest.raises(StoreError, match=r"full[\s\S]*hint: free some space"):
            _fill_until_error(tmp_path / "a.sqlite")
        store = JudgmentStore(tmp_path / "a.sqlite")
        assert len(store.get([parts(i).key for i in range(10_000)])) > 50
        store.close()
    finally:
        subprocess.run(["umount", tmp_path], check=True, timeout=10)


def _fill_under_a_limit(path: Path) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
    _fill_until_error(path)


def test_a_file_that_may_not_grow(tmp_path: Path) -> None:
    _let_others_in(tmp_path)
    tmp_path.chmod(0o777)
    message = _without_rights(lambda: _fill_under_a_limit(tmp_path / "a.sqlite"))
    assert "cannot be used" in message, message
    assert "--no-cache" in message


def test_corrupt_pages_are_never_a_silent_miss(tmp_path: Path) -> None:
    """Whatever part of the file is overwritten: every answer is right, or there is an error."""
    path = tmp_path / "a.sqlite"
    filled(path).close()
    whole = path.read_bytes()
    keys = {parts(i).key: value(f"{i} " + "x" * 2000) for i in range(100)}
    n_errors = 0
    for start in range(0, len(whole), 8192):
        path.write_bytes(whole[: start + 100] + os.urandom(4000) + whole[start + 4100 :])
        try:
            store = JudgmentStore(path)
            found = store.get(keys)
        except StoreError as error:
            n_errors += "hint" in str(error)
        else:
            # A page that no look-up needs, or whose damage hid rows: hidden rows must show in `verify`.
            if found != keys:
                with pytest.raises(StoreError):
                    list(verify(store))
        finally:
            for name in ("-wal", "-shm"):
                path.with_name(path.name + name).unlink(missing_ok=True)
    assert n_errors > 20


def test_a_damaged_value_is_found_on_reading_and_by_verify(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    store = filled(path)
    with store.database.writing() as connection:
        damaged = value("7 " + "y" * 2000)
        connection.execute("UPDATE judgments SET value = ? WHERE key = ?", (damaged, parts(7).key))
    with pytest.raises(StoreError, match=r"damaged judgment[\s\S]*verify --drop"):
        store.get([parts(7).key])
    found = [damage for damage in verify(store) if damage is not None]
    assert [damage.key for damage in found] == [parts(7).key]
    remove(store, [parts(7).key])
    assert list(verify(store)) == [None] * 99
    assert store.get([parts(7).key]) == {}


def _killed_writer(path: Path) -> None:
    store = JudgmentStore(path)
    store.put([(parts(i), value("x" * 2000)) for i in range(50)])
    store.put([(parts(i), value("x" * 2000)) for i in range(50, 100)])
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture
def with_log(tmp_path: Path) -> Path:
    """A file whose judgments are all still in the write-ahead log, as a killed process leaves it."""
    path = tmp_path / "a.sqlite"
    writer = multiprocessing.get_context("spawn").Process(target=_killed_writer, args=(path,))
    writer.start()
    writer.join(60)
    assert writer.exitcode == -signal.SIGKILL
    return path


def test_a_killed_writers_log_is_taken_over(with_log: Path) -> None:
    assert len(JudgmentStore(with_log).get([parts(i).key for i in range(100)])) == 100


def test_a_log_that_ends_in_a_transaction_keeps_the_whole_ones(with_log: Path) -> None:
    log = with_log.with_name("a.sqlite-wal")
    with open(log, "rb+") as file:
        file.truncate(log.stat().st_size - 30_000)
    store = JudgmentStore(with_log)
    assert set(store.get([parts(i).key for i in range(100)])) == {parts(i).key for i in range(50)}
    assert list(verify(store)) == [None] * 50


@pytest.mark.parametrize("n_bytes", [7, 32], ids=["torn head", "garbage"])
def test_a_log_without_a_head_is_an_error(with_log: Path, n_bytes: int) -> None:
    """SQLite takes such a log for an empty one: everything in it would be a silent miss."""
    log = with_log.with_name("a.sqlite-wal")
    log.write_bytes(os.urandom(n_bytes) + (log.read_bytes()[n_bytes:] if n_bytes == 32 else b""))
    with pytest.raises(StoreError, match=r"log .* is damaged[\s\S]*--no-cache"):
        JudgmentStore(with_log)


def test_a_file_that_stays_busy_is_an_error_that_says_so(tmp_path: Path) -> None:
    filled(tmp_path / "a.sqlite").close()
    hog = sqlite3.connect(tmp_path / "a.sqlite", isolation_level=None)
    hog.execute("BEGIN IMMEDIATE")
    try:
        store = JudgmentStore(tmp_path / "a.sqlite", busy_seconds=0.1)
        with pytest.raises(StoreError, match="another process locks the file"):
            store.put([(parts(0), value("x"))])
    finally:
        hog.close()


# Network file systems

MOUNTS = """\
/dev/vda / ext4 rw 0 0
server:/home /home nfs4 rw 0 0
tmpfs /home/me/local\\040disk tmpfs rw 0 0
user@host: /mnt/ssh fuse.sshfs rw 0 0
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/cache/a.sqlite", "ext4"),
        ("/home/me/a.sqlite", "nfs4"),
        ("/home/me/local disk/a.sqlite", "tmpfs"),
        ("/homeless/a.sqlite", "ext4"),
        ("/mnt/ssh/deep/a.sqlite", "fuse.sshfs"),
    ],
)
def test_the_file_system_of_a_path(path: str, kind: str) -> None:
    assert file_system(Path(path), MOUNTS) == kind


def test_this_machines_file_system_is_known(tmp_path: Path) -> None:
    assert file_system(tmp_path)


def test_on_a_network_file_system_there_is_no_log_and_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    filled(tmp_path / "a.sqlite").close()
    with caplog.at_level("WARNING", logger="autoj_reward"):
        store = JudgmentStore(tmp_path / "a.sqlite", network=True)
    assert "network file system" in caplog.text
    with store.database.reading() as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    assert len(store.get([parts(i).key for i in range(100)])) == 100


# Pruning


def test_pruning_by_age_size_and_model(store: JudgmentStore) -> None:
    store.put([(parts(i), value("x" * 1000)) for i in range(10)])
    store.put([(parts(i, "other"), value("x" * 1000)) for i in range(10)])
    store.note_engine("other", kind="vllm", model="GAIR/autoj-13b", version="1")
    with store.database.writing() as connection:
        connection.execute("UPDATE judgments SET created = created - 1000 WHERE id <= 5")
    assert prune(store, older_than_seconds=500, model="other") == (0, 0)
    assert prune(store, older_than_seconds=500, dry_run=True)[0] == 5
    assert prune(store, older_than_seconds=500)[0] == 5
    assert store.get([parts(i).key for i in range(10)]).keys() == {parts(i).key for i in range(5, 10)}
    # The newest stay.
    n_gone, _ = prune(store, max_bytes=12_500)
    assert n_gone == 3
    assert store.get([parts(i).key for i in range(10)]).keys() == {parts(8).key, parts(9).key}
    assert prune(store, model="GAIR/autoj-13b")[0] == 10
    assert [e.fingerprint for e in stats(store).engines] == ["engine"]
    with pytest.raises(ConfigError, match="has no records"):
        prune(store, model="unknown")
    with pytest.raises(ConfigError, match="needs a limit"):
        prune(store)


def test_pruning_makes_the_file_smaller(tmp_path: Path) -> None:
    store = filled(tmp_path / "a.sqlite", 500)
    before = stats(store).file_bytes
    prune(store, max_bytes=0)
    assert stats(store).file_bytes < before / 4


def test_the_oldest_go_first_also_after_a_merge(store: JudgmentStore) -> None:
    """Merged judgments keep their age; what came in last once counted as newest."""
    store.put([(parts(i), value("x" * 1000)) for i in range(4)])
    with store.database.writing() as connection:
        connection.execute("UPDATE judgments SET created = created - 1000 * id")
    prune(store, max_bytes=2200)
    assert store.get([parts(i).key for i in range(4)]).keys() == {parts(0).key, parts(1).key}


def test_pruning_keeps_no_record_older_than_one_that_did_not_fit(store: JudgmentStore) -> None:
    for i, n_chars in enumerate((100, 5000, 1000)):
        store.put([(parts(i), value("x" * n_chars))])
    prune(store, max_bytes=2000)
    assert store.get([parts(i).key for i in range(3)]).keys() == {parts(2).key}


# Files that change while they are open


def test_a_file_that_is_deleted_while_open_is_made_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What was written into a deleted file was once acknowledged, and gone."""
    store = filled(tmp_path / "a.sqlite", 3)
    (tmp_path / "a.sqlite").unlink()
    store.put([(parts(7), value("kept"))])
    assert "deleted or replaced" in caplog.text
    assert JudgmentStore(tmp_path / "a.sqlite").get([parts(n).key for n in range(9)]).keys() == {parts(7).key}


def test_a_file_that_a_newer_version_takes_over_while_open_is_left_alone(tmp_path: Path) -> None:
    store = filled(tmp_path / "a.sqlite", 3)
    with sqlite3.connect(tmp_path / "a.sqlite") as raw:
        raw.execute(f"PRAGMA user_version = {newest() + 1}")
    raw.close()
    for use in (lambda: store.get([parts(0).key]), lambda: store.put([(parts(5), value("x"))])):
        with pytest.raises(StoreError, match="newer version"):
            use()


@pytest.mark.parametrize(
    ("kind", "shared"),
    [("ext4", False), ("nfs4", True), ("fuse.sshfs", True), ("fuse.unheard-of", True), ("fuseblk", False)],
)
def test_file_systems_that_hosts_share(kind: str, shared: bool) -> None:
    assert is_network(kind) is shared

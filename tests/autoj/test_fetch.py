# SPDX-License-Identifier: Apache-2.0
"""Fetching from a server on this machine that lies, breaks off and resumes."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from typer.testing import CliRunner

from autoj_reward.autoj.fetch import Catalogue, PublishedFile, blob_id, fetch, load_catalogue
from autoj_reward.cli.app import app
from autoj_reward.errors import ConfigError, DataError, EngineUnavailable

CONTENT = b"".join(b'{"n": %d}\n' % n for n in range(20_000))


def id_of(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves `files`; `breaks` transfers end early; `ranges` says whether it resumes."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {"a/rows.jsonl": CONTENT}
        self.breaks = 0
        self.errors: list[int] = []
        self.ranges = True
        self.asked: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server = self.server
        wanted = self.headers.get("Range")
        server.asked.append(wanted)
        content = server.files.get(self.path.lstrip("/"))
        if server.errors or content is None:
            self.send_error(server.errors.pop(0) if server.errors else 404)
            return
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and server.ranges else 0
        if wanted and server.ranges and start >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        body = content[start:]
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if server.breaks:
            server.breaks -= 1
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            self.connection.close()
            return
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    made = Server()
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield made
    made.shutdown()
    made.server_close()
    thread.join()


CATALOGUE = Catalogue(
    name="own",
    repository="o/r",
    commit="0" * 40,
    url="http://127.0.0.1:9/{repository}/{commit}/{path}",
    licence="none",
    files=(PublishedFile(path="a/rows.jsonl", blob=id_of(CONTENT), n_bytes=len(CONTENT)),),
)


def get(server: Server, folder: Path, **more: object) -> int:
    (done,) = fetch(CATALOGUE, folder, base_url=server.url, pause_seconds=0.0, **more)  # type: ignore[arg-type]
    assert done.path.read_bytes() == CONTENT
    assert not done.path.with_name("rows.jsonl.part").exists()
    return done.n_transferred


def test_a_file_is_fetched_once(server: Server, tmp_path: Path) -> None:
    assert get(server, tmp_path) == len(CONTENT)
    assert get(server, tmp_path) == 0
    assert server.asked == [None]


def test_a_broken_transfer_goes_on_where_it_stopped(server: Server, tmp_path: Path) -> None:
    server.breaks = 2
    assert get(server, tmp_path) == len(CONTENT)
    half, rest = len(CONTENT) // 2, len(CONTENT) - len(CONTENT) // 2
    assert server.asked == [None, f"bytes={half}-", f"bytes={half + rest // 2}-"]


def test_a_broken_transfer_without_ranges_begins_again(server: Server, tmp_path: Path) -> None:
    server.breaks, server.ranges = 1, False
    get(server, tmp_path)
    assert len(server.asked) == 2


def test_a_call_goes_on_where_the_last_one_gave_up(server: Server, tmp_path: Path) -> None:
    server.breaks = 5
    with pytest.raises(EngineUnavailable, match="5 times") as caught:
        get(server, tmp_path)
    assert "to continue" in caught.value.hint
    kept = (tmp_path / "a" / "rows.jsonl.part").stat().st_size
    assert 0 < kept < len(CONTENT)
    assert get(server, tmp_path) == len(CONTENT) - kept


def test_a_wrong_file_is_refused_and_not_kept(server: Server, tmp_path: Path) -> None:
    server.files["a/rows.jsonl"] = CONTENT.replace(b"7", b"8")
    with pytest.raises(DataError, match="not the published file"):
        get(server, tmp_path)
    assert not list((tmp_path / "a").iterdir())


def test_a_wrong_beginning_from_another_day_is_thrown_away(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "rows.jsonl.part").write_bytes(b"x" * 1000)
    get(server, tmp_path)
    assert server.asked == ["bytes=1000-", None]


def test_a_part_that_is_whole_already_is_only_checked(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "rows.jsonl.part").write_bytes(CONTENT)
    assert get(server, tmp_path) == 0


def test_busy_servers_are_asked_again_and_refusals_are_final(server: Server, tmp_path: Path) -> None:
    server.errors = [503, 429]
    get(server, tmp_path / "busy")
    server.errors = [403]
    with pytest.raises(EngineUnavailable, match="answers 403") as caught:
        get(server, tmp_path / "refused")
    assert "HTTPS_PROXY" in caught.value.hint


def test_without_a_network_it_says_what_to_do(server: Server, tmp_path: Path) -> None:
    with pytest.raises(EngineUnavailable, match="cannot be reached") as caught:
        fetch(CATALOGUE, tmp_path)
    assert f"put it at {tmp_path / 'a' / 'rows.jsonl'}" in caught.value.hint
    # A file that came in another way is taken.
    (tmp_path / "a" / "rows.jsonl").write_bytes(CONTENT)
    assert fetch(CATALOGUE, tmp_path)[0].there


def test_another_file_in_the_place_is_not_overwritten(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "rows.jsonl").write_text("mine")
    with pytest.raises(DataError, match="is not the published file"):
        get(server, tmp_path)
    assert (tmp_path / "a" / "rows.jsonl").read_text() == "mine"


def test_the_catalogue_names_files_of_one_commit(data: Path) -> None:
    catalogue = load_catalogue("autoj")
    assert catalogue.commit == "2ae17a3965d933232e9cd50302aa0f176249c83b"
    known = {f.path: f for f in catalogue.files}
    assert known["data/test/testdata_selection.jsonl"].blob == "ca3b3bb2c07d55c0e3774febded657f44d059fc5"
    assert len([path for path in known if path.endswith(".yaml")]) == 63
    here = [f for f in catalogue.files if (data / "auto-j" / f.path).is_file()]
    assert len(here) == 77
    for file in here:
        assert blob_id(data / "auto-j" / file.path) == file.blob
    # What is there already is taken from its place, with no network.
    assert all(
        f.there for f in fetch(catalogue, data / "auto-j", patterns=["testdata_pairwise.jsonl", "*.yaml"])
    )
    with pytest.raises(ConfigError, match="no file 'nothing'"):
        catalogue.chosen(["nothing"])
    with pytest.raises(ConfigError, match="no data 'other'"):
        load_catalogue("other")


def test_the_command_lists_and_fetches(server: Server, tmp_path: Path, data: Path) -> None:
    listed = CliRunner().invoke(app, ["data", "fetch", "autoj", "--list"], catch_exceptions=False).stdout
    assert len(listed.splitlines()) == 80
    path = "data/outputs/pairwise_example_output.jsonl"
    server.files[path] = (data / "auto-j" / path).read_bytes()
    arguments = ["data", "fetch", "autoj", "-o", str(tmp_path), "--base-url", server.url]
    done = CliRunner().invoke(app, [*arguments, "--only", "pairwise_example_output*"], catch_exceptions=False)
    assert done.exit_code == 0
    assert (tmp_path / path).read_bytes() == server.files[path]
    first = json.loads((tmp_path / path).read_text(encoding="utf-8").splitlines()[0])
    assert first["output"] in (0, 1, 2)

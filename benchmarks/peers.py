# SPDX-License-Identifier: Apache-2.0
"""How fast are other judge libraries on the same machine, model, prompts and output length?

Each peer runs in an environment of its own, made with uv, as a process of its own, one after the other. All
get the same messages, dtype, threads, greedy decoding and limit of tokens. A peer that loads a model itself
does; one that needs an endpoint gets one `vllm serve`, which then also serves `Judge`, so that the two are
compared on the same engine. Measured for each: seconds to the first judgment (its start and its model's
included), judgments a second over all further rows, the same once more in the same process (warm; a peer that
takes rows one by one gets the first four), tokens and requests, peak memory of its own processes (without the
server's), and what became of outputs it could not read.

On a CPU vLLM's own cache blocks hold 128 tokens, more than a short prompt, so that nothing of it is shared;
`Judge` in process takes blocks of 32. `--block-size` gives all the same.

Response caches have a table of their own: the warm rate, and how many requests reach the server for the same
rows once more, for another model, for a higher limit of tokens, and beside a row that the server refuses.

Picks have one too: the best of N completions by weighted criteria, from groups whose gold labels differ. The
rows share the judge, a server of their own (llm-verifier asks for up to 4,096 tokens a call), groups and
criteria. Measured: the gold of the picks, and what the server counted: calls, tokens, seconds.

Every finished row is kept in results/NAME.json at once (picks in results/NAME_picks.json), and a second run
goes on with what is missing; rows of another model, set or length are never mixed in. `--peers NAME...` runs
some, `--again` repeats them.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import httpx
from groups import SETS, data_folder, flat, read_groups
from report import RESULTS, publish, show

from autoj_reward.engines.vllm.loading import thread_environment

RUNNERS = Path(__file__).resolve().parent / "peer_runners"
UV = Path(__file__).resolve().parents[1] / ".venv-uv" / "bin" / "uv"
"""The uv that `./setup` installs if the machine has none."""
ENVIRONMENTS = Path.home() / ".cache" / "autoj_reward" / "peers"
SERVED, OTHER = "judge", "other-judge"
SERVE = "import sys; from autoj_reward.engines.local_server.launch import serve; serve(sys.argv[1:])"
"""`vllm serve`; its own script does not start for the CPU build, which is a package of another name."""


Table = Literal["judges", "caches", "picks"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """One thing people would use.

    Attributes:
        script: Its runner.
        packages: What its environment needs; empty runs it in this one.
        served: Whether it needs the shared server.
        table: Which table it is in: judges, response caches, or picks by criteria.
        settings: Further ones for its task.
    """

    script: str
    packages: tuple[str, ...] = ()
    served: bool = False
    table: Table = "judges"
    settings: tuple[tuple[str, Any], ...] = ()


PEERS: dict[str, Peer] = {
    "transformers pipeline": Peer(script="transformers_loop.py"),
    "vllm.LLM": Peer(script="vllm_loop.py"),
    "ours, critique": Peer(script="ours.py", settings=(("mode", "critique"),)),
    "ours, direct": Peer(script="ours.py", settings=(("mode", "direct"),)),
    # prometheus-eval imports fastchat.conversation, which fschat holds, and asks for neither it nor requests.
    "prometheus-eval": Peer(
        script="prometheus_eval_runner.py",
        packages=("prometheus-eval==0.1.20", "fschat==0.2.36", "requests"),
        served=True,
    ),
    "distilabel": Peer(
        script="distilabel_runner.py", packages=("distilabel[openai]==1.5.3", "requests"), served=True
    ),
    "ours on that server": Peer(script="ours.py", served=True, settings=(("mode", "critique"),)),
    "lm-eval's cache": Peer(
        script="lm_eval_cache.py", packages=("lm-eval[api]==0.4.13",), served=True, table="caches"
    ),
    # alpaca_eval imports pkg_resources, which newer setuptools have not, and does not ask for it.
    "alpaca_eval's cache": Peer(
        script="alpaca_eval_cache.py",
        packages=("alpaca-eval==0.6.6", "setuptools==80.9.0"),
        served=True,
        table="caches",
    ),
    "our cache": Peer(script="ours_cache.py", served=True, table="caches"),
    "llm-verifier": Peer(
        script="llm_verifier_picks.py",
        packages=("llm-verifier==0.3.0",),
        served=True,
        table="picks",
        settings=(("evaluations", 4),),
    ),
    "llm-verifier, each once": Peer(
        script="llm_verifier_picks.py",
        packages=("llm-verifier==0.3.0",),
        served=True,
        table="picks",
        settings=(("evaluations", 1),),
    ),
    "our best_of_n": Peer(script="ours_picks.py", served=True, table="picks"),
}
COLUMNS = ("per_second", "warm_per_second", "first_seconds", "tokens", "requests", "peak_mib", "n_unreadable")
CACHE_COLUMNS = (
    "n", "warm_per_second", "reopened_seconds", "requests_cold", "requests_warm", "requests_other_model",
    "requests_more_tokens", "refused_row", "refused_row_asked", "rows_answered_beside_it",
)  # fmt: skip
PICK_COLUMNS = (
    "n", "gold", "gold_of_any", "gold_of_best", "n_without_pick", "requests", "refused", "prompt_tokens",
    "cached_tokens", "tokens", "pick_seconds", "first_seconds",
)  # fmt: skip
TABLES = {"judges": COLUMNS, "caches": CACHE_COLUMNS, "picks": PICK_COLUMNS}
CRITERIA = {
    "Truth": "Is everything that the answer says true?",
    "Information": "Does the answer give information that answers the question?",
}
"""What truthfulqa's gold asks for: truthful and informative."""
PICKS_CONTEXT = 6144
"""Room for the 4,096 tokens that llm-verifier asks for with each call, and for its prompt."""


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("--judge", default="mini")
    arguments.add_argument("--set", default="truthfulqa-16", choices=list(SETS))
    arguments.add_argument("--limit", type=int, default=2, help="groups")
    arguments.add_argument("--pairs", type=int, default=16, help="most pairs, beside the first one")
    arguments.add_argument("--tokens", type=int, default=48, help="most tokens of a critique")
    arguments.add_argument("--context", type=int, default=2048)
    arguments.add_argument("--max-chars", type=int, default=1200, help="longer pairs are left out")
    arguments.add_argument("--dtype", default=default_dtype(), help="of all; by default what the CPU has")
    arguments.add_argument("--cache-gib", type=float, default=1.0, help="of vLLM's KV cache")
    arguments.add_argument(
        "--block-size", type=int, help="tokens of vLLM's cache blocks; each one's own if left out"
    )
    arguments.add_argument("--pick-groups", type=int, default=8, help="groups to pick from, and one before")
    arguments.add_argument("--pick-n", type=int, default=4, help="completions of each")
    arguments.add_argument("--name", default="peers", help="of the file under results/")
    arguments.add_argument("--timeout", type=float, default=3600.0, help="seconds of one peer")
    arguments.add_argument("--peers", nargs="+", choices=list(PEERS), default=list(PEERS))
    arguments.add_argument("--again", action="store_true")
    given = arguments.parse_args()

    picking = [n for n in given.peers if PEERS[n].table == "picks"]
    if others := [n for n in given.peers if n not in picking]:
        run_peers(given, make_task(given), others, given.name, ("judges", "caches"))
    if picking:
        run_peers(given, make_picks_task(given), picking, f"{given.name}_picks", ("picks",))


QUESTIONS: dict[Table, str] = {
    "judges": "judgments a second, beside what people would use instead",
    "picks": "gold of the best of N by criteria and what it costs, beside llm-verifier",
}


def run_peers(
    given: argparse.Namespace,
    task: Mapping[str, Any],
    names: Sequence[str],
    file: str,
    tables: Sequence[Table],
) -> None:
    """Run the peers that have no row yet, print their tables and keep their rows."""
    kept = RESULTS / f"{file}.json"
    rows = kept_rows(kept, task["identity"])
    wanted = [n for n in names if given.again or n not in rows or "error" in rows[n]]
    with tempfile.TemporaryDirectory(prefix="autoj-reward-peers-") as folder, contextlib.ExitStack() as stack:
        server: dict[str, Any] | None = None
        # Peers with a model of their own first: the server would take their memory.
        for name in sorted(wanted, key=lambda n: PEERS[n].served):
            peer = PEERS[name]
            try:
                if peer.served and server is None:
                    server = stack.enter_context(served(task, Path(folder)))
                if server is not None:
                    # Who comes later must not find the prompts that an earlier one has had computed.
                    httpx.post(server["url"] + "/reset_prefix_cache", timeout=60).raise_for_status()
                given_task = {**task, **(server or {})} if peer.served else task
                rows[name] = run_peer(peer, given_task, Path(folder), given.timeout)
            except (OSError, RuntimeError, httpx.HTTPError, subprocess.SubprocessError) as error:
                rows[name] = {"error": str(error)[-2000:]}
            keep(rows, task["identity"], kept)
            print(json.dumps({"peer": name, **rows[name]}))
    for table in tables:
        show(table_of(rows, table))
    publish(file, QUESTIONS[tables[0]], results(rows, task["identity"]))


def default_dtype() -> str:
    """bfloat16 where the machine has units for it; other CPUs are ten times slower in it: float32."""
    import torch

    flags = Path("/proc/cpuinfo").read_text(encoding="utf-8").split()
    return "bfloat16" if torch.cuda.is_available() or "avx512_bf16" in flags else "float32"


def make_task(given: argparse.Namespace) -> dict[str, Any]:
    """What all peers get, and what identifies it."""
    from autoj_reward.engines.checkpoint.embedded import resolve_model
    from autoj_reward.judge.presets import load_spec
    from autoj_reward.types import ChatWrapper

    spec = load_spec(given.judge)
    assert spec.rating is not None
    prompts, completions = flat(read_groups(given.set, given.limit))
    short = [(p, c) for p, c in zip(prompts, completions, strict=True) if len(p) + len(c) <= given.max_chars]
    pairs = short[: given.pairs + 1]
    # More tokens than fit, whatever the tokenizer: for what a cache makes of a refusal.
    overlong = (pairs[0][0], "no " * 4 * given.context)
    filled = [
        "".join(s.text for s in spec.rating.template.fill({"prompt": p, "completion": c}))
        for p, c in (*pairs, overlong)
    ]
    bodies = filled[:-1]
    blocks = {"block_size": given.block_size} if given.block_size else {}
    return {
        "judge": given.judge,
        "model": str(resolve_model(spec.model)),
        "dtype": given.dtype,
        "system": spec.wrapper.system if isinstance(spec.wrapper, ChatWrapper) else None,
        "pairs": pairs,
        "bodies": bodies,
        "overlong": {"pair": overlong, "body": filled[-1]},
        "max_new_tokens": given.tokens,
        "context": given.context,
        "vllm_options": {"kv_cache_memory_bytes": int(given.cache_gib * 2**30), **blocks},
        "identity": {
            "judge": given.judge,
            "set": given.set,
            "dtype": given.dtype,
            "n": len(pairs) - 1,
            "n_too_long": len(prompts) - len(short),
            "prompts": hashlib.sha256("\0".join(bodies).encode("utf-8", "surrogatepass")).hexdigest()[:16],
            "max_new_tokens": given.tokens,
            "context": given.context,
            **blocks,
        },
    }


def make_picks_task(given: argparse.Namespace) -> dict[str, Any]:
    """What all that pick get: groups of truthfulqa whose gold differs, criteria, and what identifies them.

    The completions of a group are the first N by a hash, as in `evaluate selection`. The first group is not
    counted: loading and connecting are its time.
    """
    from autoj_reward.engines.checkpoint.embedded import resolve_model
    from autoj_reward.evaluate.gold import READERS
    from autoj_reward.judge.presets import load_spec

    groups: list[dict[str, Any]] = []
    for group in READERS["truthfulqa"](data_folder()):
        chosen = [members[0] for members in group.members[: given.pick_n]]
        assert group.gold is not None
        gold = [group.gold[i] for i in chosen]
        if len(chosen) == given.pick_n and len(set(gold)) > 1:
            completions = [group.completions[i] for i in chosen]
            groups.append({"prompt": group.prompt, "completions": completions, "gold": gold})
    groups = groups[: given.pick_groups + 1]
    texts = [text for group in groups for text in (group["prompt"], *group["completions"])]
    blocks = {"block_size": given.block_size} if given.block_size else {}
    return {
        "judge": given.judge,
        "model": str(resolve_model(load_spec(given.judge).model)),
        "dtype": given.dtype,
        "groups": groups,
        "criteria": CRITERIA,
        "context": PICKS_CONTEXT,
        "vllm_options": {"kv_cache_memory_bytes": int(given.cache_gib * 2**30), **blocks},
        "identity": {
            "judge": given.judge,
            "set": "truthfulqa",
            "dtype": given.dtype,
            "n_groups": len(groups) - 1,
            "n_completions": given.pick_n,
            "texts": hashlib.sha256("\0".join(texts).encode("utf-8", "surrogatepass")).hexdigest()[:16],
            "criteria": CRITERIA,
            "context": PICKS_CONTEXT,
            **blocks,
        },
    }


def kept_rows(path: Path, identity: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Rows of a former run of the same task; none of another one."""
    if not path.exists():
        return {}
    kept = json.loads(path.read_text(encoding="utf-8"))
    return dict(kept.get("rows", {})) if kept.get("identity") == dict(identity) else {}


def results(rows: Mapping[str, Mapping[str, Any]], identity: Mapping[str, Any]) -> dict[str, Any]:
    """The results to keep: rows, their task, and ratios to ours."""
    return {"identity": dict(identity), "rows": dict(rows), "ratios": ratios(rows)}


def keep(rows: Mapping[str, Mapping[str, Any]], identity: Mapping[str, Any], path: Path) -> None:
    """Write the rows so far; a killed run loses the one it was at."""
    path.parent.mkdir(exist_ok=True)
    scratch = path.with_suffix(".tmp")
    scratch.write_text(json.dumps(results(rows, identity), indent=1) + "\n", encoding="utf-8")
    os.replace(scratch, path)


def ratios(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Our judgments a second over each peer's, on the same kind of engine; rows that failed are left out."""
    found = {}
    for name, row in rows.items():
        ours = "ours on that server" if PEERS.get(name, Peer(script="")).served else "ours, critique"
        if name.startswith("our") or "per_second" not in row or "per_second" not in rows.get(ours, {}):
            continue
        found[name] = rows[ours]["per_second"] / row["per_second"]
    return found


def table_of(rows: Mapping[str, Mapping[str, Any]], table: Table = "judges") -> list[dict[str, Any]]:
    """A table of the peers; rows that failed say why."""
    own = {name: row for name, row in rows.items() if PEERS.get(name, Peer(script="")).table == table}
    last = {"judges": "unreadable", "caches": "where", "picks": "how"}[table]
    return [
        {
            "peer": name,
            **{c: row.get(c, "-") for c in TABLES[table]},
            last: row.get(last) or row.get("error", "")[-60:],
        }
        for name, row in own.items()
    ]


def run_peer(peer: Peer, task: Mapping[str, Any], folder: Path, timeout: float) -> dict[str, Any]:
    """Run a peer's script in its environment.

    Returns:
        What it measured, with rates, peak memory and date.

    Raises:
        RuntimeError: It failed, or took too long; with the end of what it printed.
    """
    python = environment(peer.packages)
    own = Path(tempfile.mkdtemp(dir=folder))
    settings = {**task, **dict(peer.settings), "folder": str(own), "cache": str(own / "judgments.sqlite")}
    if peer.table == "caches":
        settings["pairs"] = [task["overlong"]["pair"], *task["pairs"][1:]]
        settings["bodies"] = [task["overlong"]["body"], *task["bodies"][1:]]
    (own / "task.json").write_text(json.dumps(settings), encoding="utf-8")
    command = [str(python), str(RUNNERS / peer.script), str(own / "task.json"), str(own / "out.json")]
    variables = {
        **os.environ, **thread_environment(), "OPENAI_API_KEY": task.get("api_key") or "none",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True", "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        # In this environment, this package; in a peer's, only the runners.
        "PYTHONPATH": str(RUNNERS) if peer.packages else f"{RUNNERS}{os.pathsep}{RUNNERS.parents[1]}",
    }  # fmt: skip
    with open(own / "log.txt", "wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=variables, start_new_session=True)
        with PeakMemory(process.pid) as memory:
            try:
                code = process.wait(timeout)
            except subprocess.TimeoutExpired:
                _end(process)
                raise RuntimeError(f"not done within {timeout:g} s: {_tail(own / 'log.txt')}") from None
    if code != 0 or not (own / "out.json").exists():
        raise RuntimeError(f"exit status {code}: {_tail(own / 'log.txt')}")
    return row_of(json.loads((own / "out.json").read_text(encoding="utf-8")), memory.peak_mib)


def row_of(measured: Mapping[str, Any], peak_mib: float) -> dict[str, Any]:
    """What a runner wrote, with rates."""
    rates = {"per_second": ("n", "cold_seconds"), "warm_per_second": ("n_warm", "warm_seconds")}
    return {
        **{rate: measured[n] / measured[s] for rate, (n, s) in rates.items() if s in measured},
        **measured,
        "peak_mib": round(peak_mib),
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "load_1min": round(os.getloadavg()[0], 1),
    }


def environment(packages: Sequence[str]) -> Path:
    """The Python of an environment that holds the packages; this one for none. Made once and kept.

    Raises:
        RuntimeError: uv is missing, or the packages cannot be installed.
    """
    if not packages:
        return Path(sys.executable)
    folder = ENVIRONMENTS / hashlib.sha256("\n".join(packages).encode()).hexdigest()[:16]
    python = folder / "bin" / "python"
    if (folder / "complete").exists():
        return python
    uv = shutil.which("uv") or (str(UV) if UV.exists() else None)
    if uv is None:
        raise RuntimeError("needs uv: ./setup, or pip install uv")
    shutil.rmtree(folder, ignore_errors=True)
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    for command in (
        [uv, "venv", "--quiet", "--python", version, str(folder)],
        [uv, "pip", "install", "--quiet", "--python", str(python), *packages],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(command[:3])} failed: {done.stderr[-1500:]}")
    (folder / "complete").write_text("\n".join(packages))
    return python


@contextlib.contextmanager
def served(task: Mapping[str, Any], folder: Path) -> Iterator[dict[str, Any]]:
    """One `vllm serve` of the model for all peers that need an endpoint.

    Raises:
        RuntimeError: It did not answer within half an hour.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = {
        "host": "127.0.0.1",
        "port": port,
        "dtype": task["dtype"],
        "max-model-len": task["context"],
        **{name.replace("_", "-"): value for name, value in task["vllm_options"].items()},
    }
    command = [sys.executable, "-c", SERVE, str(task["model"])]
    command += [word for name, value in options.items() for word in (f"--{name}", str(value))]
    command += ["--served-model-name", SERVED, OTHER]
    url = f"http://127.0.0.1:{port}"
    # With its developers' routes, one of which empties the prefix cache.
    variables = os.environ | thread_environment() | {"VLLM_SERVER_DEV_MODE": "1"}
    with open(folder / "server.txt", "wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=variables, start_new_session=True)
    try:
        until = time.monotonic() + 1800
        while not _answers(url + "/health"):
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"vllm serve did not start: {_tail(folder / 'server.txt')}")
            time.sleep(1)
        yield {"url": url, "served_model": SERVED, "other_model": OTHER, "api_key": ""}
    finally:
        _end(process)


class PeakMemory:
    """Peak resident memory of a process and its children, in MiB, sampled; processes may share pages."""

    def __init__(self, pid: int, *, every_seconds: float = 0.2) -> None:
        self.peak_mib = 0.0
        self._pid, self._every = pid, every_seconds
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while True:
            self.peak_mib = max(self.peak_mib, sum(_resident_mib(p) for p in family(self._pid)))
            if self._done.wait(self._every):
                return


def family(pid: int) -> list[int]:
    """A process and all that came from it and still hang on it."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError, IndexError, ValueError):
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    members, grown = {pid}, True
    while grown:
        more = {child for child, parent in parents.items() if parent in members} - members
        members |= more
        grown = bool(more)
    return sorted(members)


def _resident_mib(pid: int) -> float:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2).status_code == 200
    except httpx.HTTPError:
        return False


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process and its session."""
    for number in (15, 9):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)
            return


def _tail(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")[-1500:]


if __name__ == "__main__":
    main()

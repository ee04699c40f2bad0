# SPDX-License-Identifier: Apache-2.0
"""`serve`: run the reward server."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Annotated, Literal

import typer

from autoj_reward.cli import display
from autoj_reward.cli.options import CacheOptions, JudgeOptions, in_panel, with_options
from autoj_reward.cli.run import load_judge
from autoj_reward.cli.shared.interrupt import leave_signals_to_command
from autoj_reward.environment import how_to_install
from autoj_reward.errors import ConfigError
from autoj_reward.progress import span

_listening_option, _limits_option = in_panel("Listening"), in_panel("Batches and limits")
_openrlhf_option = in_panel("OpenRLHF")
_CONCURRENT = ("server", "vllm-server")
"""Engines that batch the inputs of concurrent calls."""


@with_options(JudgeOptions, CacheOptions)
def serve(
    host: Annotated[
        str, _listening_option(help="Address to listen at; others than loopback need a token.")
    ] = "127.0.0.1",
    port: Annotated[int, _listening_option(min=0, max=65535, help="0 takes a free one.")] = 8100,
    token_file: Annotated[
        Path | None,
        _listening_option(
            metavar="FILE",
            help="File whose first line is the token that clients send; by default $AUTOJ_REWARD_TOKEN.",
        ),
    ] = None,
    window_ms: Annotated[
        float,
        _limits_option(min=0.0, metavar="MS", help="How long the first request of a batch waits for others."),
    ] = 5.0,
    max_batch: Annotated[
        int, _limits_option(min=1, metavar="N", help="Most inputs of one engine call.")
    ] = 256,
    at_once: Annotated[
        int | None,
        _limits_option(
            min=1,
            metavar="N",
            help="Batches judged at the same time: 32 for engines that batch by themselves (server, "
            "vllm-server), else 1.",
        ),
    ] = None,
    queue: Annotated[
        int,
        _limits_option(min=1, metavar="N", help="Judgments that may wait; more are refused with 429."),
    ] = 4096,
    deadline: Annotated[
        float, _limits_option(metavar="SECONDS", help="Longest time of a request; clients may ask for less.")
    ] = 120.0,
    max_body_mb: Annotated[float, _limits_option(metavar="MB", help="Longest request body.")] = 8.0,
    max_completions: Annotated[
        int, _limits_option(min=1, metavar="N", help="Most completions of one request.")
    ] = 1024,
    drain: Annotated[
        float,
        _limits_option(
            min=0.0, metavar="SECONDS", help="After Ctrl-C or SIGTERM, how long running requests may take."
        ),
    ] = 30.0,
    allow_host: Annotated[
        list[str] | None,
        _listening_option(
            metavar="NAME",
            help="Name by which clients may call this server. Repeatable; by default localhost and "
            "--host, and any name if a token is required.",
        ),
    ] = None,
    max_connections: Annotated[
        int,
        _limits_option(
            min=1,
            metavar="N",
            help="Most connections; a further one closes the one that has been idle longest.",
        ),
    ] = 4096,
    max_connections_per_peer: Annotated[
        int, _limits_option(min=1, metavar="N", help="Most connections from one address.")
    ] = 1024,
    max_head_kb: Annotated[
        float, _limits_option(metavar="KB", help="Longest head of a request (its headers).")
    ] = 64.0,
    head_seconds: Annotated[
        float, _limits_option(metavar="SECONDS", help="Longest time for the head of a request.")
    ] = 10.0,
    body_seconds: Annotated[
        float, _limits_option(metavar="SECONDS", help="Longest time for all of a request's body.")
    ] = 60.0,
    idle_seconds: Annotated[
        float, _limits_option(metavar="SECONDS", help="How long a connection may be idle between requests.")
    ] = 75.0,
    write_seconds: Annotated[
        float, _limits_option(metavar="SECONDS", help="Longest time for a client to read an answer.")
    ] = 60.0,
    scale: Annotated[
        Literal["raw", "unit", "centred"],
        _openrlhf_option(
            help="Scale of /get_reward's rewards: the judge's ratings, [0, 1] or [-1, 1].",
        ),
    ] = "centred",
    resolution: Annotated[
        float | None,
        _openrlhf_option(
            min=0.0,
            metavar="STEP",
            help="Step, in ratings, to which they are rounded; 0 for none, by default the engine's noise.",
        ),
    ] = None,
    failure_reward: Annotated[
        float | None,
        _openrlhf_option(
            metavar="NUMBER",
            help="Reward of /get_reward for a completion without a verdict; by default null, on which "
            "OpenRLHF stops. The judge_failed log counts them.",
        ),
    ] = None,
    end_token: Annotated[
        list[str] | None,
        _openrlhf_option(
            metavar="TEXT",
            help="Special token of the policy to remove from the end of completions, in addition to the "
            "usual ones. Repeatable.",
        ),
    ] = None,
    labels_as_references: Annotated[
        bool,
        _openrlhf_option(
            "--labels-as-references", help="Show OpenRLHF's labels to the judge as reference answers."
        ),
    ] = False,
    *,
    judging: JudgeOptions,
    caching: CacheOptions,
) -> None:
    """Serve rewards over HTTP: completions in, ratings and preferences out.

    POST /v1/rate, /v1/compare, /v1/rank, and OpenRLHF's /get_reward; GET /health, /ready, /metrics, /docs.
    Requests of all clients are merged into batches, and answered from the cache if possible.

    This serves verdicts. `serve-judge` serves the judge's bare model with vLLM, as an engine for --engine
    vllm-server. The two go together: `autoj-reward serve --engine vllm-server`.

    Ctrl-C or SIGTERM lets running requests finish.
    """
    from autoj_reward.serve.settings import ServeSettings, read_token

    try:
        from autoj_reward.serve.running import serve as run
    except ImportError as error:
        raise ConfigError(
            f"the reward server needs the package {error.name}", hint=how_to_install("serve")
        ) from error

    engine = (judging.engine or "").partition(":")[0]
    settings = ServeSettings(
        host=host,
        port=port,
        token=read_token(token_file),
        window_seconds=window_ms / 1000,
        max_batch=max_batch,
        at_once=at_once or (32 if engine in _CONCURRENT else 1),
        max_waiting=queue,
        deadline_seconds=deadline,
        max_body_bytes=int(max_body_mb * (1 << 20)),
        max_completions=max_completions,
        drain_seconds=drain,
        scale=scale,
        resolution=resolution,
        failure_reward=failure_reward,
        allowed_hosts=tuple(allow_host or ()),
        max_connections=max_connections,
        max_connections_per_peer=max_connections_per_peer,
        max_head_bytes=int(max_head_kb * 1024),
        head_seconds=head_seconds,
        body_seconds=body_seconds,
        idle_seconds=idle_seconds,
        write_seconds=write_seconds,
        end_tokens=tuple(end_token or ()),
        labels_as_references=labels_as_references,
    )
    leave_signals_to_command()
    judge = load_judge(judging, caching.for_judge(), guarded=True)

    def listening(url: str) -> None:
        typer.echo(url)
        sys.stdout.flush()
        guard = "clients send the token" if settings.token else "no token is required"
        display.note(f"loading {judge.spec.name}; {url}/docs shows the routes; {guard}; Ctrl-C ends it")

    began = time.monotonic()

    def ready() -> None:
        display.note(f"ready after {span(time.monotonic() - began)}")

    if not run(judge, settings, listening=listening, ready=ready):
        display.note("ended before all running requests were done")
        sys.stdout.flush()
        # Threads that wait for the engine would keep this process alive.
        os._exit(1)
    display.note("ended")

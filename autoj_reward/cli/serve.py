# SPDX-License-Identifier: Apache-2.0
"""`serve`: run the reward server."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from autoj_reward.cli import display
from autoj_reward.cli.options import CacheOptions, JudgeOptions, with_options
from autoj_reward.cli.run import load_judge
from autoj_reward.environment import how_to_install
from autoj_reward.errors import ConfigError

_LISTENING, _LIMITS, _OPENRLHF = "Listening", "Batches and limits", "OpenRLHF"
_CONCURRENT = ("server", "vllm-server")
"""Engines that batch by themselves what several calls ask for."""


@with_options(JudgeOptions, CacheOptions)
def serve(
    host: Annotated[
        str,
        typer.Option(
            help="Address to listen at. Any but a loopback one needs a token.", rich_help_panel=_LISTENING
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="0 takes a free one.", rich_help_panel=_LISTENING)
    ] = 8000,
    token_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="File whose first line is the token that clients show; by default $AUTOJ_REWARD_TOKEN.",
            show_default=False,
            rich_help_panel=_LISTENING,
        ),
    ] = None,
    window_ms: Annotated[
        float,
        typer.Option(
            min=0.0,
            metavar="MS",
            help="How long the first request of a batch waits for others.",
            rich_help_panel=_LIMITS,
        ),
    ] = 5.0,
    max_batch: Annotated[
        int,
        typer.Option(
            min=1, metavar="N", help="Most inputs of one call of the engine.", rich_help_panel=_LIMITS
        ),
    ] = 256,
    at_once: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Batches judged at the same time: 32 for engines that batch by themselves (server, "
            "vllm-server), else 1.",
            show_default=False,
            rich_help_panel=_LIMITS,
        ),
    ] = None,
    queue: Annotated[
        int,
        typer.Option(
            min=1,
            metavar="N",
            help="Judgments that may wait; what comes on top is refused with 429.",
            rich_help_panel=_LIMITS,
        ),
    ] = 4096,
    deadline: Annotated[
        float,
        typer.Option(
            metavar="SECONDS",
            help="Longest time of a request; clients may ask for less.",
            rich_help_panel=_LIMITS,
        ),
    ] = 120.0,
    max_body_mb: Annotated[
        float, typer.Option(metavar="MB", help="Longest request body.", rich_help_panel=_LIMITS)
    ] = 8.0,
    max_completions: Annotated[
        int,
        typer.Option(min=1, metavar="N", help="Most completions of one request.", rich_help_panel=_LIMITS),
    ] = 1024,
    drain: Annotated[
        float,
        typer.Option(
            min=0.0,
            metavar="SECONDS",
            help="After Ctrl-C or SIGTERM, how long requests under way may take.",
            rich_help_panel=_LIMITS,
        ),
    ] = 30.0,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Name by which clients may call this server. Repeatable; by default localhost and "
            "--host, and any name where a token is asked for.",
            show_default=False,
            rich_help_panel=_LISTENING,
        ),
    ] = None,
    max_connections: Annotated[
        int,
        typer.Option(
            min=1,
            metavar="N",
            help="Most connections; when there is no room, the one that has been idle longest is closed.",
            rich_help_panel=_LIMITS,
        ),
    ] = 4096,
    max_connections_per_peer: Annotated[
        int,
        typer.Option(min=1, metavar="N", help="Of them, from one address.", rich_help_panel=_LIMITS),
    ] = 1024,
    max_head_kb: Annotated[
        float,
        typer.Option(metavar="KB", help="Longest head of a request (its headers).", rich_help_panel=_LIMITS),
    ] = 64.0,
    head_seconds: Annotated[
        float,
        typer.Option(
            metavar="SECONDS", help="Longest time for the head of a request.", rich_help_panel=_LIMITS
        ),
    ] = 10.0,
    body_seconds: Annotated[
        float,
        typer.Option(
            metavar="SECONDS", help="Longest time for all of a request's body.", rich_help_panel=_LIMITS
        ),
    ] = 60.0,
    idle_seconds: Annotated[
        float,
        typer.Option(
            metavar="SECONDS",
            help="How long a connection may be idle between requests.",
            rich_help_panel=_LIMITS,
        ),
    ] = 75.0,
    write_seconds: Annotated[
        float,
        typer.Option(
            metavar="SECONDS", help="Longest time for a client to read an answer.", rich_help_panel=_LIMITS
        ),
    ] = 60.0,
    scale: Annotated[
        Literal["raw", "unit", "centred"],
        typer.Option(
            help="Scale of /get_reward's rewards: the judge's ratings, [0, 1] or [-1, 1].",
            rich_help_panel=_OPENRLHF,
        ),
    ] = "centred",
    resolution: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            metavar="STEP",
            help="Step, in ratings, to which they are rounded; 0 for none, by default the engine's noise.",
            show_default=False,
            rich_help_panel=_OPENRLHF,
        ),
    ] = None,
    failure_reward: Annotated[
        float | None,
        typer.Option(
            metavar="NUMBER",
            help="What /get_reward gives where there is no verdict; by default null, on which OpenRLHF "
            "stops. The judge_failed log counts them.",
            show_default=False,
            rich_help_panel=_OPENRLHF,
        ),
    ] = None,
    end_token: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TEXT",
            help="Special token of the policy to take off completions, besides the usual ones. Repeatable.",
            show_default=False,
            rich_help_panel=_OPENRLHF,
        ),
    ] = None,
    labels_as_references: Annotated[
        bool,
        typer.Option(
            "--labels-as-references",
            help="Show OpenRLHF's labels to the judge as reference answers.",
            rich_help_panel=_OPENRLHF,
        ),
    ] = False,
    *,
    judging: JudgeOptions,
    caching: CacheOptions,
) -> None:
    """Serve rewards over HTTP: completions in, ratings and preferences out.

    POST /v1/rate, /v1/compare, /v1/rank, and OpenRLHF's /get_reward; GET /health, /ready, /metrics, /docs.
    Requests of all clients are merged into batches, and answered from the cache where it has them.

    This serves verdicts. `serve-judge` is something else: it serves the judge's bare model with vLLM, as an
    engine for --engine vllm-server. The two go together: `autoj-reward serve --engine vllm-server`.

    Ctrl-C or SIGTERM lets requests under way finish.
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
    judge = load_judge(judging, caching.for_judge(), guarded=True)

    def listening(url: str) -> None:
        typer.echo(url)
        sys.stdout.flush()
        guard = "clients show the token" if settings.token else "no token is asked for"
        display.note(f"loading {judge.spec.name}; {url}/ready says when it is there; {guard}; Ctrl-C ends it")

    if not run(judge, settings, listening=listening):
        display.note("ended before everything under way was done")
        sys.stdout.flush()
        # Threads that wait for the engine would keep this process alive for as long as it takes.
        os._exit(1)
    display.note("ended")

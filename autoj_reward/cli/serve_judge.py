# SPDX-License-Identifier: Apache-2.0
"""`serve-judge`: run one vLLM server for all processes of a machine."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import asdict, dataclass
from types import FrameType
from typing import Annotated

import typer

from autoj_reward.cli import display
from autoj_reward.cli.options import JudgeName, in_panel, key_values, typed, with_options
from autoj_reward.cli.shared.interrupt import leave_signals_to_command
from autoj_reward.errors import ConfigError, EngineUnavailable

_machine_option, _listening_option = in_panel("The machine"), in_panel("Listening")
_BEAT_SECONDS = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelOptions:
    """Engine options that have command line options."""

    dtype: Annotated[
        str | None,
        typer.Option(help="bfloat16, float16 or float32; by default the judge's, else the checkpoint's."),
    ] = None
    quantization: Annotated[
        str | None, typer.Option(help="fp8, gptq, awq, ...: vLLM's name; by default the checkpoint's.")
    ] = None
    adapter: Annotated[str | None, typer.Option(help="Folder or hub name of a LoRA adapter.")] = None
    context_tokens: Annotated[
        int | None, typer.Option(help="Most tokens of input and output; by default the judge's.")
    ] = None
    devices: Annotated[
        str | None, _machine_option(metavar="N,N,...", help="Device numbers; by default the first ones.")
    ] = None
    tensor_parallel_size: Annotated[
        int | None, _machine_option(metavar="N", help="Devices that share each layer; by default 1.")
    ] = None
    data_parallel_size: Annotated[
        int | None, _machine_option(metavar="N", help="Replicas of the whole model; by default 1.")
    ] = None
    memory_share: Annotated[
        float | None,
        _machine_option(
            metavar="SHARE", help="Share of each device's memory, in (0, 1]; by default nearly all."
        ),
    ] = None
    python: Annotated[
        str | None,
        _machine_option(
            metavar="PATH", help="Interpreter of the environment that has vLLM; by default the present one."
        ),
    ] = None
    name: Annotated[
        str,
        _listening_option(
            help="Separates judges that would share a server (same model, dtype, adapter and context).",
            show_default=False,
        ),
    ] = ""


@with_options(ModelOptions)
def serve_judge(
    judge: JudgeName = "mini",
    start_seconds: Annotated[float, _machine_option(help="Longest wait until it is ready.")] = 1800.0,
    engine_option: Annotated[
        list[str] | None,
        _machine_option(
            metavar="KEY=VALUE",
            help="Any other engine option of `vllm serve` (enforce_eager=true, ...). Repeatable.",
        ),
    ] = None,
    host: Annotated[
        str, _listening_option(help="Address to listen at; 0.0.0.0 for other machines, which need the key.")
    ] = "127.0.0.1",
    port: Annotated[int | None, _listening_option(min=1, max=65535, help="By default a free one.")] = None,
    *,
    options: ModelOptions,
) -> None:
    """Serve a judge's bare model with vLLM, for --engine vllm-server and for other programs.

    This starts `vllm serve`: it answers prompts with tokens. For rewards over HTTP (completions in, verdicts
    out) use `autoj-reward serve`, which can run on top of this one.

    Your processes on this machine that ask for the same judge (--engine vllm-server with the same model,
    dtype, adapter, context and name) find the server by themselves. Others need its address, which is
    printed when it is ready, and its key: $AUTOJ_REWARD_API_KEY if that is set, else a random one, kept in a
    file that only you can read.

    Over several machines, run this on each with --host 0.0.0.0 and one $AUTOJ_REWARD_API_KEY, and judge with
    --engine vllm-server --engine-option endpoints=http://HOST:PORT,http://HOST:PORT.

    Ctrl-C or SIGTERM ends it, with all its processes; so does the death of this command.
    """
    from autoj_reward.engines.factory import check_installed, check_model
    from autoj_reward.engines.local_server.engine import serve_order
    from autoj_reward.engines.local_server.progress import progress
    from autoj_reward.engines.local_server.settings import LocalServerSettings, device_numbers
    from autoj_reward.engines.local_server.shared import share_server
    from autoj_reward.engines.local_server.state import JudgeFolder
    from autoj_reward.judge.presets import load_spec

    spec = load_spec(judge)
    check_model(spec)
    given = {"revision": spec.revision, "context_tokens": spec.context_tokens, **spec.engine_options}
    given |= typed(key_values(engine_option, "--engine-option"))
    given |= {key: value for key, value in asdict(options).items() if value is not None}
    if given.get("python") is None:
        check_installed("vllm-server")
    settings = LocalServerSettings.from_options(spec.model, given, device_numbers(given.pop("devices", None)))
    folder = JudgeFolder(settings.key())
    _end_on_signals()
    try:
        with progress(f"starting {spec.name}", shown=True) as report:
            server = share_server(
                folder,
                lambda: serve_order(settings, host=host, port=port),
                start_seconds=start_seconds,
                report=report,
            )
        if not server.owned:
            server.close()
            state = server.state
            raise ConfigError(
                f"this judge is already served by process {state.owner_pid} at {state.endpoint}",
                hint="use that one, or start a second server with --name",
            )
        try:
            typer.echo(server.state.endpoint)
            key = "$AUTOJ_REWARD_API_KEY" if os.environ.get("AUTOJ_REWARD_API_KEY") else str(folder.state)
            display.note(f"ready; its key is in {key}, its log in {folder.log}; Ctrl-C ends it")
            while server.lives():
                time.sleep(_BEAT_SECONDS)
        finally:
            server.close(end=True)
    except KeyboardInterrupt:
        display.note("ended")
        raise typer.Exit(0) from None
    raise EngineUnavailable(f"the judge ended by itself; the end of {folder.log}:\n{folder.tail()}")


def _end_on_signals() -> None:
    """Let SIGTERM and a closed terminal end this command the way Ctrl-C does."""
    leave_signals_to_command()

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)

# SPDX-License-Identifier: Apache-2.0
"""Entry point of the server process: check settings with vLLM, then run `vllm serve`.

The supervisor runs it as `python -P -m autoj_reward.engines.local_server.launch HOST PORT INFO_FILE`, with
the settings in the environment. The checks are here because they import vLLM, which clients need not.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from dataclasses import replace
from pathlib import Path

from autoj_reward.engines.checkpoint.embedded import resolve_model
from autoj_reward.engines.local_server.settings import SETTINGS_VARIABLE, LocalServerSettings, serve_command
from autoj_reward.environment import write_whole
from autoj_reward.errors import ConfigError
from autoj_reward.redact import redacted

_WRONG_SETTINGS = 3
"""Exit status: the info file contains an error message for the user."""


def main() -> None:
    """Write what only vLLM knows to the info file, then serve until ended."""
    host, port, server_info = sys.argv[1:]
    settings = os.environ.pop(SETTINGS_VARIABLE)
    try:
        arguments = _prepared(LocalServerSettings.from_json(settings), host, port, Path(server_info))
    except ConfigError as error:
        write_whole(Path(server_info), json.dumps({"error": error.args[0], "hint": error.hint}))
        sys.exit(_WRONG_SETTINGS)
    serve(arguments)


def _prepared(settings: LocalServerSettings, host: str, port: str, server_info: Path) -> list[str]:
    """The command line, after the checks; writes what the server computes in to the info file.

    Raises:
        ConfigError: vLLM has no such option, or cannot load the model's configuration.
    """
    from vllm.engine.arg_utils import EngineArgs
    from vllm.platforms import current_platform

    from autoj_reward.engines.vllm.loading import load_tokenizer
    from autoj_reward.engines.vllm.options import engine_arguments

    on_cpu = current_platform.is_cpu()
    arguments = engine_arguments(
        adapter=settings.adapter,
        context_tokens=settings.context_tokens,
        memory_share=settings.memory_share,
        sleep=False,
        on_cpu=on_cpu,
        options=settings.options,
    )
    path = resolve_model(settings.model)
    load_tokenizer(path, settings.revision, settings.tensor_parallel_size, arguments)
    engine = EngineArgs(model=path, revision=settings.revision, dtype=settings.dtype, **arguments)
    try:
        model = engine.create_model_config()
    except Exception as error:
        raise ConfigError(f"vLLM cannot load the judge model {settings.model!r}: {error}") from error
    settings = replace(settings, block_size=settings.block_size or (32 if on_cpu else 16))
    command = serve_command(settings, arguments, host=host, port=port)
    found = {
        "dtype": str(model.dtype),
        "context_tokens": int(model.max_model_len),
        "request_model": settings.request_model,
        "command": redacted(command),
    }
    write_whole(server_info, json.dumps(found))
    print(shlex.join(redacted(command)), flush=True)  # noqa: T201 - the first line of the log
    return command[2:]


def serve(arguments: list[str]) -> None:
    """What `vllm serve` does.

    Not by its script: that asks for the metadata of a package named vllm, which the CPU build, a package
    of another name, does not have.
    """
    from vllm.entrypoints.cli.serve import cmd_init
    from vllm.entrypoints.serve.utils.api_utils import cli_env_setup
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    cli_env_setup()
    parser = FlexibleArgumentParser(prog="vllm")
    commands = parser.add_subparsers(dest="subparser")
    (serve,) = cmd_init()
    serve.subparser_init(commands)
    # vLLM looks at the command line itself to tell given arguments from defaults.
    sys.argv = ["vllm", "serve", *arguments]
    options = parser.parse_args(sys.argv[1:])
    serve.validate(options)
    serve.cmd(options)


if __name__ == "__main__":
    main()

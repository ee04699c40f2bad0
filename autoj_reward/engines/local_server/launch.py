# SPDX-License-Identifier: Apache-2.0
"""Script of the server process: complete the engine arguments with vLLM, then run the command `vllm serve`.

The supervisor runs it as `PYTHON launch.py HOST PORT INFO_FILE`, with what to serve in the environment (see
`LocalServerSettings.as_order`). PYTHON may belong to another environment, without this package: so the script
imports the standard library and vLLM only. Its use of vLLM was read in the wheels of vLLM 0.23 to 0.33.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib.metadata
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ORDER_VARIABLE = "AUTOJ_REWARD_SERVE_SETTINGS"
"""What tells the server's process what to serve; a command line could be read by every user."""

_WRONG_SETTINGS = 3
"""Exit status: the info file contains an error message for the user."""


class _Refused(Exception):
    """Message and hint for the user."""


def main() -> None:
    """Write what only vLLM knows to the info file, then serve until ended."""
    # The folder of a script is the first place that Python imports from.
    sys.path = [path for path in sys.path if Path(path) != Path(__file__).parent]
    host, port, server_info = sys.argv[1:]
    order = json.loads(os.environ.pop(ORDER_VARIABLE))
    try:
        arguments, found = _complete(order)
    except _Refused as error:
        message, hint = error.args
        Path(server_info).write_text(json.dumps({"error": message, "hint": hint}), encoding="utf-8")
        sys.exit(_WRONG_SETTINGS)
    Path(server_info).write_text(json.dumps(found), encoding="utf-8")
    serve([order["model"], *flags({"host": host, "port": port, **arguments, **order["frontend"]})])


def _complete(order: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The engine arguments for this vLLM and platform, and what clients want to know of the server.

    Raises:
        _Refused: vLLM cannot be imported, lacks an option, or cannot load the model's configuration.
    """
    try:
        from vllm import AsyncEngineArgs, __version__
        from vllm.platforms import current_platform
    except ImportError as error:
        raise _Refused(
            f"vLLM cannot be imported by {sys.executable}: {error}",
            "install vLLM there, or name another Python that has it: python=PATH",
        ) from error
    known = {field.name for field in dataclasses.fields(AsyncEngineArgs)}
    if unknown := sorted(order["options"].keys() - known):
        near = [n for name in unknown for n in difflib.get_close_matches(name, known, n=1)]
        raise _Refused(
            f"vLLM {__version__} has no option {', '.join(unknown)}",
            f"did you mean {', '.join(near)}?" if near else "see `vllm serve --help`",
        )
    defaults = order["cpu_defaults"] if current_platform.is_cpu() else {"block_size": 16}
    # Arguments that an older vLLM lacks only save work, or are what it does anyway.
    own = {name: value for name, value in order["arguments"].items() if name in known}
    arguments = {**defaults, **own, **order["options"]}
    try:
        model = AsyncEngineArgs(model=order["model"], **arguments).create_model_config()
    except Exception as error:
        raise _Refused(f"vLLM cannot load the judge model {order['model']!r}: {error}", "") from error
    return arguments, {
        "dtype": str(model.dtype),
        # Versions before 0.26 compute logits in the model's dtype.
        "head_dtype": str(getattr(model, "head_dtype", model.dtype)).removeprefix("torch."),
        "context_tokens": int(model.max_model_len),
    }


def serve(arguments: list[str]) -> None:
    """Run the command `vllm serve` in this process.

    The command asks for the version of a package named vllm, which the CPU build, a package of another
    name, does not have: so it is told.
    """
    import vllm
    from vllm.entrypoints.cli.main import main as command
    from vllm.platforms import current_platform

    # vLLM knows its CPU build by that package's name, so it finds the device first.
    current_platform.is_cpu()
    installed = importlib.metadata.version
    importlib.metadata.version = lambda distribution_name: (
        vllm.__version__ if distribution_name == "vllm" else installed(distribution_name)
    )
    sys.argv = ["vllm", "serve", *arguments]
    command()


def flags(arguments: Mapping[str, Any]) -> list[str]:
    """Arguments by their Python names, as a shell would give them to `vllm serve`."""
    return [part for name, value in arguments.items() for part in _flag(name, value)]


def _flag(name: str, value: Any) -> list[str]:
    flag = "--" + name.replace("_", "-")
    if value is None:
        return []
    if isinstance(value, bool):
        return [flag if value else "--no-" + name.replace("_", "-")]
    if isinstance(value, Mapping):
        return [flag, json.dumps(value)]
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [flag, *map(str, value)]
    # A value that begins with a dash would be taken for a flag.
    return [f"{flag}={value}"]


if __name__ == "__main__":
    main()

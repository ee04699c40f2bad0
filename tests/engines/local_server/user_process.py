# SPDX-License-Identifier: Apache-2.0
"""A process that shares a stand-in server, and does what it is told on standard input.

`user_process.py KEY [further arguments of the stand-in]`; prints a JSON line when it has the server, and one
for each order: `lives`, `close`, `fork` (a child that ends in order), `exit`.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from autoj_reward.engines.local_server.shared import LaunchSpec, share_server
from autoj_reward.engines.local_server.state import JudgeFolder
from autoj_reward.errors import AutojRewardError

STAND_IN = Path(__file__).parent.parent / "openai" / "stand_in_server.py"


def stand_in_order(*arguments: str) -> LaunchSpec:
    """How the stand-in is started."""
    return LaunchSpec(
        command=(sys.executable, str(STAND_IN), "{port}", *arguments),
        environment={**os.environ, "VLLM_API_KEY": "secret"},
        api_key="secret",
    )


def tell(**news: object) -> None:
    sys.stdout.write(json.dumps({"pid": os.getpid(), **news}) + "\n")
    sys.stdout.flush()


def main() -> None:
    key, *arguments = sys.argv[1:]
    folder = JudgeFolder(key)
    try:
        server = share_server(
            folder, lambda: stand_in_order(*arguments), start_seconds=60, report=lambda _: None
        )
    except AutojRewardError as error:
        tell(error=type(error).__name__, message=str(error))
        return
    state = server.state
    tell(owned=server.owned, judge_id=state.judge_id, endpoint=state.endpoint, owner=state.owner_pid)
    for line in sys.stdin:
        order = line.strip()
        if order == "close":
            server.close()
            tell(alive=folder.alive_now())
        elif order == "lives":
            tell(lives=server.lives())
        elif order == "fork":
            child = os.fork()
            if child == 0:
                # As a worker of a data loader ends: in order, with everything that runs at exit.
                sys.exit(0)
            os.waitpid(child, 0)
            tell(lives=server.lives())
        else:
            break


if __name__ == "__main__":
    main()

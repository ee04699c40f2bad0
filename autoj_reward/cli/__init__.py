# SPDX-License-Identifier: Apache-2.0
"""The command line. Heavy libraries are imported by the command that needs them."""

from __future__ import annotations

import errno
import os
import sys

from autoj_reward.errors import AutojRewardError, BudgetSpent


def main() -> None:
    """Run `autoj-reward`; errors of this package are printed as messages, others as tracebacks.

    Exit status: 0 done, 1 a check found something, 2 a wrong setting, file or engine, 3 some rows
    failed or were left out, 4 the budget is spent, 130 interrupted, 143 ended by SIGTERM.
    """
    # Hides loading messages and bars of the model libraries, unless the user has set these.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TQDM_DISABLE", "1")
    from autoj_reward.cli.shared.interrupt import end_now, end_soon_after_signals

    end_soon_after_signals()
    try:
        from autoj_reward.cli.app import app

        app()
    except KeyboardInterrupt:
        end_now()
    except SystemExit as ended:
        if ended.code == 130:
            end_now()
        raise
    except AutojRewardError as error:
        from autoj_reward.redact import redact

        if os.environ.get("AUTOJ_REWARD_DEBUG"):
            raise
        print(f"error: {redact(str(error))}", file=sys.stderr)  # noqa: T201 - this is the display
        sys.exit(4 if isinstance(error, BudgetSpent) else 2)
    except OSError as error:
        # A closed pipe or a full disk is not our bug.
        if error.errno not in (errno.EPIPE, errno.ENOSPC, errno.EDQUOT):
            raise
        # Python flushes standard output at exit, which would fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if error.errno == errno.EPIPE:
            sys.exit(1)
        print(f"error: the output cannot be written: {error}", file=sys.stderr)  # noqa: T201 - as above
        sys.exit(2)

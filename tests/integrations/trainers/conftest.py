# SPDX-License-Identifier: Apache-2.0
"""A reward server for trainers that run for real; `tests/trainers_env` makes an environment with them."""

from __future__ import annotations

import pytest

pytest.importorskip("fastapi", reason="needs the reward server: the serve extra")

from tests.integrations.remote.conftest import _token, answers, judge, server

__all__ = ["_token", "answers", "judge", "server"]

# SPDX-License-Identifier: Apache-2.0
"""Requests that vLLM computes together, to which more can be added while others run."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from typing import Any, Generic, TypeVar

from autoj_reward.engines.vllm.private import abort_requests, engine_dead_error
from autoj_reward.errors import AutojRewardError, EngineContractBroken, EngineRejected, EngineUnavailable

_Tag = TypeVar("_Tag")
_NUMBERS = itertools.count()


class RunningRequests(Generic[_Tag]):
    """The requests of one call.

    Args:
        llm: A `vllm.LLM` with no other requests.
        adapter: vLLM's record of a LoRA adapter, or None.
    """

    def __init__(self, llm: Any, adapter: Any) -> None:
        self._engine = llm.llm_engine
        self._adapter = adapter
        self._tags: dict[str, _Tag] = {}

    def __len__(self) -> int:
        return len(self._tags)

    def add(self, ids: list[int], parameters: Any, tag: _Tag) -> None:
        """Add a request; `finished` gives its answer back with the tag.

        Raises:
            EngineUnavailable: vLLM's engine process died.
            EngineRejected: vLLM refused the request.
        """
        name = f"judge-{next(_NUMBERS)}"
        prompt = {"type": "token", "prompt_token_ids": ids}
        with _translated_errors():
            self._engine.add_request(name, prompt, parameters, lora_request=self._adapter)
        self._tags[name] = tag

    def finished(self) -> list[tuple[_Tag, Any]]:
        """Wait for vLLM's next step, and return the requests that it finished: perhaps none.

        Raises:
            EngineUnavailable: vLLM's engine process died.
            EngineContractBroken: vLLM has forgotten a request.
        """
        with _translated_errors():
            if not self._engine.has_unfinished_requests():
                raise EngineContractBroken(f"vLLM gave no answer to {len(self._tags)} requests")
            outputs = self._engine.step()
        return [(self._tags.pop(output.request_id), output) for output in outputs if output.finished]


@contextlib.contextmanager
def running_requests(llm: Any, adapter: Any) -> Iterator[RunningRequests[Any]]:
    """Requests of which none is left behind: it would be among the next call's answers."""
    try:
        yield RunningRequests(llm, adapter)
    except EngineUnavailable:
        raise
    except BaseException:
        abort_requests(llm)
        raise


@contextlib.contextmanager
def _translated_errors() -> Iterator[None]:
    try:
        yield
    except AutojRewardError:
        raise
    except engine_dead_error() as error:
        raise EngineUnavailable(
            "vLLM's engine process ended",
            hint="see vLLM's messages above; if it ran out of memory, lower memory_share; then create a new "
            "engine",
        ) from error
    except Exception as error:
        raise EngineRejected(f"vLLM refused a request: {error}") from error

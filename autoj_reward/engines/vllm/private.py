# SPDX-License-Identifier: Apache-2.0
"""The parts of vLLM used here that it does not document, in one place.

Read in the wheels of vLLM 0.23 to 0.33, in all of which they are the same. What is used elsewhere is
public: `LLM`, its `LLMEngine` (`add_request`, `has_unfinished_requests`, `step`), `SamplingParams`,
`AsyncEngineArgs`, `LoRARequest`, `current_platform` and the command `vllm`.
"""

from __future__ import annotations

from typing import Any


def engine_dead_error() -> type[Exception]:
    """What a call raises after vLLM's engine process has ended."""
    from vllm.v1.engine.exceptions import EngineDeadError

    found: type[Exception] = EngineDeadError
    return found


def abort_requests(llm: Any) -> None:
    """Drop every request that a `vllm.LLM` still holds."""
    engine = llm.llm_engine
    engine.abort_request(list(engine.output_processor.request_states), internal=True)


def end_processes(llm: Any) -> None:
    """End the processes of a `vllm.LLM`, with the thread and the sockets that it leaves to the collector."""
    core = llm.llm_engine.engine_core
    core.shutdown()
    # The collector complains of the sockets' context once the thread that reads the outputs has let go of it.
    # An engine without processes of its own has neither.
    if (reader := getattr(core, "output_queue_thread", None)) is not None:
        reader.join(timeout=10)
    if (context := getattr(core, "ctx", None)) is not None:
        context.destroy(linger=0)

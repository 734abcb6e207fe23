"""Reaches the one attention call inside a diffusers attention processor, after RoPE and above any backend.

A processor is replaced by a shallow copy of a dynamic subclass with the same name and signature. The subclass runs the
original code object with a private copy of its globals in which `F` and `dispatch_attention_fn` are exchanged, so that
the model's own code does everything else. Nothing outside that one instance changes.
"""

from __future__ import annotations

import copy
import functools
import inspect
import threading
import types
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from asymrnr import compile_op
from asymrnr.errors import InterceptionError
from asymrnr.restoration import call_or_broadcast
from asymrnr.site import Site
from asymrnr.symmetric import attend_reduced

SITE_ATTRIBUTE = "_asymrnr_site"
_ATTENTION_NAMES = frozenset({"scaled_dot_product_attention", "dispatch_attention_fn"})


class _Running(threading.local):
    """The site whose processor runs in this thread: the operation's signature has no place to pass it."""

    site: Site | None = None


_RUNNING = _Running()


def make_proxy(processor: Any, site: Site) -> Any:
    """A stand-in for one attention processor that hands its attention call to the site's engine.

    Raises:
        InterceptionError: the processor makes no attention call that can be reached.
    """
    proxy = copy.copy(processor)
    proxy.__class__ = _proxy_class(type(processor))  # type: ignore[arg-type]
    setattr(proxy, SITE_ATTRIBUTE, site)
    return proxy


def is_proxy(processor: Any) -> bool:
    return hasattr(processor, SITE_ATTRIBUTE)


def _sdpa(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    **extra: Any,
) -> torch.Tensor:
    """Replaces `F.scaled_dot_product_attention` in a processor; layout (batch, heads, tokens, head dim)."""

    def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        return F.scaled_dot_product_attention(q, k, v, mask, dropout_p, is_causal, **extra)

    site = _RUNNING.site
    if site is None or is_causal:
        return attention(query, key, value, attn_mask)
    if torch.compiler.is_compiling():
        return compile_op.attend(query, key, value, attn_mask, site.number, "bhsd", extra.get("scale"), "")
    return site.engine.attend(site, query, key, value, attn_mask, "bhsd", attention)


class _Functional:
    """Stands in for `torch.nn.functional`; all other names are looked up when used, so user patches stay effective."""

    scaled_dot_product_attention = staticmethod(_sdpa)

    def __getattr__(self, name: str) -> Any:
        return getattr(F, name)


def _dispatch_for(original: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    def dispatch_attention_fn(
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attn_mask: torch.Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        *args: Any,
        **kwargs: Any,
    ) -> torch.Tensor:
        def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
            return original(q, k, v, mask, dropout_p, is_causal, *args, **kwargs)

        site = _RUNNING.site
        if site is None or is_causal or kwargs.get("parallel_config") is not None:
            return attention(query, key, value, attn_mask)
        backend = kwargs.get("backend")
        name = "" if backend is None else getattr(backend, "value", backend)
        if torch.compiler.is_compiling():
            return compile_op.attend(query, key, value, attn_mask, site.number, "bshd", kwargs.get("scale"), name)
        return site.engine.attend(site, query, key, value, attn_mask, "bshd", attention, name)

    return dispatch_attention_fn


def _names(code: types.CodeType) -> set[str]:
    nested = (constant for constant in code.co_consts if isinstance(constant, types.CodeType))
    return set(code.co_names).union(*map(_names, nested))


def _helpers(function: types.FunctionType) -> dict[str, types.FunctionType]:
    """Functions of the same module that a function refers to."""
    scope = function.__globals__
    found = {name: scope.get(name) for name in _names(function.__code__)}
    return {n: f for n, f in found.items() if isinstance(f, types.FunctionType) and f.__globals__ is scope}


def _attends(function: types.FunctionType, seen: frozenset[types.CodeType] = frozenset()) -> bool:
    """Does the function, or a helper of its module, call attention?"""
    if function.__code__ in seen:
        return False
    if _names(function.__code__) & _ATTENTION_NAMES:
        return True
    seen |= {function.__code__}
    return any(_attends(helper, seen) for helper in _helpers(function).values())


def _rebound_call(cls: type) -> Callable[..., Any]:
    """`cls.__call__` with the attention functions exchanged in a private copy of its globals."""
    function = inspect.unwrap(cls.__call__)
    if not isinstance(function, types.FunctionType) or not _attends(function):
        raise InterceptionError(f"{cls.__name__} makes no attention call that can be intercepted; use another one.")
    # Without __name__, or torch.compile would look globals up in the original module.
    scope = {name: value for name, value in function.__globals__.items() if name != "__name__"}

    def rebind(f: types.FunctionType) -> types.FunctionType:
        clone = types.FunctionType(f.__code__, scope, f.__name__, f.__defaults__, f.__closure__)
        clone.__kwdefaults__ = f.__kwdefaults__
        clone.__qualname__ = f.__qualname__
        clone.__module__ = f.__module__
        return clone

    for name, value in function.__globals__.items():
        if value is F:
            scope[name] = _Functional()
        elif name == "dispatch_attention_fn":
            scope[name] = _dispatch_for(value)
    for name, helper in _helpers(function).items():
        if name not in _ATTENTION_NAMES and _attends(helper):
            scope[name] = rebind(helper)
    return rebind(function)


def _call_eagerly(site: Site, inner: Callable[..., Any], bound: inspect.BoundArguments) -> Any:
    hidden = bound.arguments["hidden_states"]
    site.batch = hidden.shape[0]
    rate = site.engine.rate("H", site.row)
    if rate > 0:
        return attend_reduced(site, rate, inner, bound)
    if site.engine.memory is not None:
        return call_or_broadcast(site, hidden, functools.partial(inner, *bound.args, **bound.kwargs))
    site.hidden = hidden if site.engine.observer else None
    try:
        return inner(*bound.args, **bound.kwargs)
    finally:
        site.hidden = None


@functools.cache
def _proxy_class(cls: type) -> type:
    inner = _rebound_call(cls)
    signature = inspect.signature(cls.__call__)

    @functools.wraps(cls.__call__)  # diffusers drops keyword arguments that the signature does not name
    def call(self: Any, attn: Any, *args: Any, **kwargs: Any) -> Any:
        site: Site = getattr(self, SITE_ATTRIBUTE)
        previous, _RUNNING.site = _RUNNING.site, site
        try:
            if torch.compiler.is_compiling():
                return inner(self, attn, *args, **kwargs)
            return _call_eagerly(site, inner, signature.bind(self, attn, *args, **kwargs))
        finally:
            _RUNNING.site = previous

    return type(cls.__name__, (cls,), {"__call__": call, "__module__": cls.__module__})

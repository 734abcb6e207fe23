"""Intercepts the one attention call of a processor, after RoPE and above any backend, on single instances.

A processor is replaced by a copy whose class is a dynamic subclass of its own. The subclass runs the processor's own
code with a private copy of its globals, in which `F.scaled_dot_product_attention` and `dispatch_attention_fn` report to
the site. Nothing global is patched, and no processor is written again.
"""

from __future__ import annotations

import copy
import functools
import threading
from collections.abc import Callable
from types import CodeType, FunctionType
from typing import Any, Protocol

import torch
import torch.nn.functional as F

from asymrnr.errors import InterceptionError

Attend = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None], torch.Tensor]

_CALLS = ("scaled_dot_product_attention", "dispatch_attention_fn")


class Site(Protocol):
    """Receives what a processor computes. Tensors are heads-first: (batch, heads, tokens, channels)."""

    def hidden(self, hidden_states: torch.Tensor) -> None:
        """The processor is called with these hidden states, (batch, tokens, channels)."""

    def attend(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None, attend: Attend
    ) -> torch.Tensor:
        """Answer the attention call; `attend` is the one that would have run."""


class _Current(threading.local):
    site: Site | None = None


_CURRENT = _Current()


def _sdpa(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    **kwargs: Any,
) -> torch.Tensor:
    def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        return F.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, dropout_p=dropout_p, is_causal=is_causal, **kwargs
        )

    site = _CURRENT.site
    if site is None or is_causal:
        return attend(query, key, value, attn_mask)
    return site.attend(query, key, value, attn_mask, attend)


def _dispatch(original: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """`dispatch_attention_fn` takes (batch, tokens, heads, channels)."""

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
        site = _CURRENT.site
        if site is None or is_causal or kwargs.get("parallel_config") is not None:
            return original(query, key, value, attn_mask, dropout_p, is_causal, *args, **kwargs)

        def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
            q, k, v = (x.transpose(1, 2) for x in (q, k, v))
            return original(q, k, v, mask, dropout_p, is_causal, *args, **kwargs).transpose(1, 2)

        q, k, v = (x.transpose(1, 2) for x in (query, key, value))
        return site.attend(q, k, v, attn_mask, attend).transpose(1, 2)

    return dispatch_attention_fn


class _FunctionalProxy:
    """Stands in for `torch.nn.functional`; everything but the attention call is looked up there when used."""

    scaled_dot_product_attention = staticmethod(_sdpa)

    def __getattr__(self, name: str) -> Any:
        return getattr(F, name)


def _names(code: CodeType) -> set[str]:
    nested = (c for c in code.co_consts if isinstance(c, CodeType))
    return set(code.co_names).union(*(_names(c) for c in nested))


def _rebound_call(processor_class: type) -> FunctionType:
    """The class's `__call__` with the attention call redirected.

    Raises:
        InterceptionError: the code makes no attention call that is known.
    """
    function: Any = processor_class.__call__
    while hasattr(function, "__wrapped__"):
        function = function.__wrapped__
    if not isinstance(function, FunctionType) or not _names(function.__code__) & set(_CALLS):
        raise InterceptionError(f"{processor_class.__name__} makes no attention call that can be intercepted.")
    scope = dict(function.__globals__)
    scope.pop("__name__", None)  # torch.compile would look names up in the original module otherwise
    for name, value in function.__globals__.items():
        if value is F:
            scope[name] = _FunctionalProxy()
        elif name == "dispatch_attention_fn":
            scope[name] = _dispatch(value)
    clone = FunctionType(function.__code__, scope, function.__name__, function.__defaults__, function.__closure__)
    clone.__kwdefaults__ = function.__kwdefaults__
    return clone


def proxy_processor(processor: Any, site: Site) -> Any:
    """A copy of the processor that reports to `site` and is otherwise the same, down to class name and signature.

    Raises:
        InterceptionError: the processor makes no attention call that is known.
    """
    original = type(processor)
    inner = _rebound_call(original)

    @functools.wraps(original.__call__)  # diffusers filters keyword arguments by this signature
    def call(self: Any, attn: Any, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        previous, _CURRENT.site = _CURRENT.site, site
        try:
            site.hidden(hidden_states)
            return inner(self, attn, hidden_states, *args, **kwargs)
        finally:
            _CURRENT.site = previous

    proxy = copy.copy(processor)
    proxy.__class__ = type(original.__name__, (original,), {"__call__": call, "__module__": original.__module__})
    return proxy

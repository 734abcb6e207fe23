"""The attention call as one opaque operation, so that compiled models keep a single graph whatever is reduced.

The output has full length, so its shape does not depend on the rate; step, schedule and cache stay Python state inside
the operation. The site travels as a CPU tensor, so that equal blocks share one graph. Inference only.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

import torch
import torch.nn.functional as F
from diffusers.models import attention_dispatch

if TYPE_CHECKING:
    from asymrnr.site import Site

_SITES: WeakValueDictionary[int, Site] = WeakValueDictionary()  # a traced graph can only carry a number
_NUMBERS = itertools.count()


def register_site(site: Site) -> torch.Tensor:
    """A tensor by which the operation finds the site again."""
    number = next(_NUMBERS)
    _SITES[number] = site
    return torch.tensor(number)


@torch.library.custom_op("asymrnr::attend", mutates_args=(), tags=(torch.Tag.cudagraph_unsafe,))
def attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    site: torch.Tensor,
    layout: str,
    scale: float | None,
    backend: str,
) -> torch.Tensor:
    """`Engine.attend` for traced code.

    Args:
        query, key, value: in the given layout.
        mask: as the operation takes it.
        site: see `register_site`.
        layout: "bhsd" calls `F.scaled_dot_product_attention`, "bshd" diffusers' `dispatch_attention_fn`.
        scale: of the scores; by default 1 / sqrt(head dim).
        backend: diffusers attention backend, "" for the active one.
    """

    def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, m: torch.Tensor | None) -> torch.Tensor:
        if layout == "bhsd":
            return F.scaled_dot_product_attention(q, k, v, attn_mask=m, scale=scale)
        chosen = attention_dispatch.AttentionBackendName(backend) if backend else None
        return attention_dispatch.dispatch_attention_fn(q, k, v, m, scale=scale, backend=chosen)

    found = _SITES[int(site)]
    if layout == "bhsd":
        output = found.engine.attend(found, query, key, value, mask, "bhsd", attention)
    else:
        output = found.engine.attend(found, query, key, value, mask, "bshd", attention, backend)
    return output.contiguous()


@attend.register_fake
def _(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    site: torch.Tensor,
    layout: str,
    scale: float | None,
    backend: str,
) -> torch.Tensor:
    return query.new_empty(*query.shape[:-1], value.shape[-1])

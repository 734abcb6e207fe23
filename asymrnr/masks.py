"""Attention masks that follow the reduction of queries and keys."""

from __future__ import annotations

import torch

from asymrnr.reduction import Plan


def widen_mask(mask: torch.Tensor, batch: int, keys: int, key_padding: bool) -> torch.Tensor:
    """A mask as (batch or 1, heads or 1, queries or 1, keys).

    Args:
        mask: any shape that broadcasts to (batch, heads, queries, keys), or key padding of shape (batch, keys).
        batch, keys: sizes of the attention call.
        key_padding: a 2-D mask of shape (batch, keys) hides keys (`dispatch_attention_fn`); otherwise a 2-D mask is
            (queries, keys), as `scaled_dot_product_attention` reads it.
    """
    if mask.dim() == 2 and key_padding and mask.shape == (batch, keys):
        return mask[:, None, None]
    if mask.dim() == 3:
        return mask[:, None]
    return mask.view(*[1] * (4 - mask.dim()), *mask.shape)


def reduce_mask(
    mask: torch.Tensor, queries: Plan | None, keys: Plan | None, video: slice, uniform: bool
) -> torch.Tensor:
    """Pick the rows and columns of a mask that belong to the tokens kept.

    Args:
        mask: (batch or 1, heads or 1, queries or 1, keys or 1), see `widen_mask`.
        queries, keys: joint plans, or None where nothing is reduced.
        video: where the video tokens lie in the joint sequence.
        uniform: all video tokens have the same mask value (only text is hidden), so that columns may simply be cut
            and the mask need not grow a heads axis.
    """
    for plan, dim in ((queries, 2), (keys, 3)):
        if plan is None or mask.shape[dim] == 1:
            continue
        if uniform:
            dropped = plan.back.shape[-1] - plan.take.shape[-1]
            before, after = mask.tensor_split([video.start, video.start + dropped], dim)[::2]
            mask = torch.cat([before, after], dim)
        else:
            heads = plan.take.shape[:2]
            index = plan.take.long()[:, :, :, None] if dim == 2 else plan.take.long()[:, :, None, :]
            expanded = mask.expand(*heads, *mask.shape[2:])
            shape = list(expanded.shape)
            shape[dim] = plan.take.shape[-1]
            mask = expanded.gather(dim, index.expand(shape))
    return mask

"""Turns a matching into gather indices: which tokens stay, and where every token finds its result (equation 4)."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from asymrnr.errors import ScheduleError
from asymrnr.matching import match_tokens
from asymrnr.matching_local import match_local
from asymrnr.partition import Partition
from asymrnr.schedule import Metric


def max_rate(partition: Partition) -> float:
    """The largest rate possible: everything dropped but the destinations."""
    return 1 - partition.dst.numel() / partition.tokens


def gather_tokens(x: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Pick tokens per batch item and head.

    Args:
        x: (batch, heads, tokens, head dim), of any strides.
        index: (batch, heads, n) int32 or int64.

    Returns:
        (batch, heads, n, head dim); on a GPU with heads and tokens in the order that they have in the memory of x, so
        that neither attention nor what follows it has to turn them.
    """
    if x.device.type == "cpu" and not x.requires_grad:  # copies whole rows: five times as fast as gather
        out = x.new_empty(*index.shape, x.shape[-1])
        for item in range(x.shape[0]):
            for head in range(x.shape[1]):
                torch.index_select(x[item, head], 0, index[item, head], out=out[item, head])
        return out
    return _gather_in_order(x, index)


def _gather_in_order(x: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """`gather_tokens` where no whole rows are copied."""
    where = index.long()[..., None].expand(*index.shape, x.shape[-1])
    if x.requires_grad or x.stride(1) >= x.stride(2):
        return x.gather(2, where)
    batch, heads, n, dim = where.shape
    return torch.gather(x, 2, where, out=x.new_empty(batch, n, heads, dim).transpose(1, 2))


def add_tokens(x: torch.Tensor, index: torch.Tensor, values: torch.Tensor) -> None:
    """Add to some tokens of every batch item and head, in place.

    Args:
        x: (batch, heads, tokens, head dim).
        index: (batch, heads, n) int32 or int64, no token twice.
        values: (batch, heads, n, head dim).
    """
    if x.device.type == "cpu" and not x.requires_grad:  # adds whole rows
        for item in range(x.shape[0]):
            for head in range(x.shape[1]):
                x[item, head].index_add_(0, index[item, head], values[item, head])
        return
    where = index.long()[..., None].expand(values.shape)
    x.scatter_(2, where, x.gather(2, where) + values)


@dataclass(frozen=True)
class Plan:
    """Gather indices of one reduction, made once for all steps of a cache window that drop as much.

    Positions are int32, half the memory of what is kept for a window; on CUDA every gather widens them on the device.
    The lengths of the reduced sequence are as few as the rates of the schedule, and compiled code does not see them
    (see `asymrnr.compile_op`), so they are not rounded.

    Attributes:
        take: (batch, heads, n') int32, positions kept, in the order of the reduced sequence.
        back: (batch, heads, n) int32, where in the reduced sequence each token finds its result.
    """

    take: torch.Tensor
    back: torch.Tensor

    def joint(self, before: int, after: int) -> Plan:
        """The plan of a joint sequence with further tokens around the video tokens, all of which are kept.

        Args:
            before, after: number of tokens before and after the video tokens.
        """
        if before == after == 0:
            return self
        kept, tokens = self.take.shape[-1], self.back.shape[-1]

        def surround(index: torch.Tensor, length: int) -> torch.Tensor:
            around = torch.arange(before + length + after, dtype=torch.int32, device=index.device)
            around = around.expand(*index.shape[:2], -1)
            return torch.cat([around[..., :before], index + before, around[..., before + length :]], dim=-1)

        take = surround(self.take, tokens)
        return Plan(take, surround(self.back, kept))

    def reduce(self, x: torch.Tensor) -> torch.Tensor:
        """Discard: (batch, heads, n, head dim) -> (batch, heads, n', head dim)."""
        return gather_tokens(x, self.take)

    def reduce_mean(self, x: torch.Tensor) -> torch.Tensor:
        """Mean: every token dropped is averaged into its destination, in float32; shapes as in `reduce`."""
        shape = (*self.take.shape, x.shape[-1])
        position = self.back.long()
        total = torch.zeros(shape, dtype=torch.float32, device=x.device)
        total.scatter_add_(2, position[..., None].expand(*position.shape, x.shape[-1]), x.float())
        count = torch.zeros(shape[:3], dtype=torch.float32, device=x.device)
        count.scatter_add_(2, position, torch.ones_like(position, dtype=torch.float32))
        return (total / count[..., None]).to(x.dtype)

    def dropped(self) -> torch.Tensor:
        """(batch, heads, n - n') int32, positions dropped, ascending."""
        batch, heads, n = self.back.shape
        gone = torch.ones_like(self.back, dtype=torch.bool).scatter_(-1, self.take.long(), False)
        count = n - self.take.shape[-1]
        # as `nonzero` would give them, but for waiting for the device: all others share a last place
        place = (gone.cumsum(-1) - 1).masked_fill_(~gone, count)
        found = self.back.new_empty(batch, heads, count + 1)
        tokens = torch.arange(n, dtype=torch.int32, device=found.device).expand(batch, heads, -1)
        return found.scatter_(-1, place, tokens)[..., :count].clone()  # a view would keep the last place, too

    def restore(self, x: torch.Tensor) -> torch.Tensor:
        """Copy results back to every token: (batch, heads, n', head dim) -> (batch, heads, n, head dim)."""
        return gather_tokens(x, self.back)


@dataclass(frozen=True)
class Match:
    """A matching, ready to be cut at any rate.

    The sources are sorted once, although one rate only needs to know which ones it keeps: the rate may change from step
    to step within a cache window, equal distances are cut alike everywhere, and the sort takes 1.5 % of the matching
    (17550 tokens, CPU), of which a selection would spare a half.

    Attributes:
        partition: destinations and sources, on the device of the features.
        order: (batch, heads, n_src) int32, sources from least to most similar: those dropped last come first.
        slot: (batch, heads, n_src) int32, destination of each source as index into `partition.dst`.
        mean_distance: of all sources to their destinations, a scalar; single ones are not kept, which is a third of it.
    """

    partition: Partition
    order: torch.Tensor
    slot: torch.Tensor
    mean_distance: torch.Tensor

    @classmethod
    def of(
        cls,
        features: torch.Tensor,
        partition: Partition,
        metric: Metric = "euclidean",
        generator: torch.Generator | None = None,
        radius: int | None = None,
    ) -> Match:
        """Match features (batch, heads, video tokens, head dim); see `match_tokens`, or with a radius `match_local`."""
        there = partition.to(features.device)
        if radius is None:
            distance, slot = match_tokens(features, there, metric, generator)
        else:
            distance, slot = match_local(features, partition, radius, metric)
        order = distance.argsort(dim=-1, descending=True, stable=True).to(torch.int32)
        return cls(there, order, slot, distance.mean())

    def plan(self, rate: float) -> Plan:
        """Drop the most similar sources until int(n * (1 - rate)) tokens are left; destinations always stay.

        Raises:
            ScheduleError: the rate would drop destinations, or is negative.
        """
        n_src, n_dst = self.partition.src.numel(), self.partition.dst.numel()
        check_rate(rate, self.partition.tokens, n_dst)
        n_keep = max(0, int((n_src + n_dst) * (1 - rate)) - n_dst)
        order = self.order.long()
        device, heads_shape = order.device, order.shape[:2]
        src, dst = self.partition.src, self.partition.dst
        keep, drop = order[..., :n_keep], order[..., n_keep:]
        kept, dropped = src[keep], src[drop]
        take = torch.cat([kept, dst.expand(*heads_shape, -1)], dim=-1)
        back = torch.empty(*heads_shape, n_src + n_dst, dtype=torch.int32, device=device)
        where = torch.arange(n_keep + n_dst, dtype=torch.int32, device=device)
        back.scatter_(-1, take, where.expand(*heads_shape, -1))
        back.scatter_(-1, dropped, self.slot.gather(-1, drop) + n_keep)
        return Plan(take.to(torch.int32), back)


def check_rate(rate: float, tokens: int, n_dst: int) -> None:
    """Refuse a rate that cannot be reached with the destinations kept.

    Raises:
        ScheduleError: the rate is negative or above 1 - n_dst / tokens.
    """
    largest = 1 - n_dst / tokens
    if rate < 0 or rate > largest + 1e-9:
        raise ScheduleError(
            f"Rate {rate:g} is out of reach: the {n_dst} destinations of {tokens} tokens always stay, "
            f"so the largest rate is {largest:.4g}."
        )

"""What attention, matching and gathering take on the device in use, measured in a few seconds."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers.models import attention_dispatch
from scipy.interpolate import RegularGridInterpolator

from asymrnr.engine import Attention
from asymrnr.masks import reduce_mask
from asymrnr.partition import Grid, make_partition
from asymrnr.reduction import Match, Plan, gather_tokens, max_rate
from tuner.ceilings import TIMING_BYTES
from tuner.errors import UsageError
from tuner.latency.masking import Masking
from tuner.latency.residual import ResidualLatency
from tuner.latency.residual import jobs as residual_jobs
from tuner.run.clock import now
from tuner.strides import parse_stride

COPIES = 11  # of a head's queries, that the pieces timed hold at a time
MATCHING_BYTES = 320 << 20  # of a matching on a GPU without the kernel
SHARES = (0.1, 0.25, 0.5, 0.75, 1.0)
GATHER_POINTS = 4
ROUNDS = (3, 25)


@dataclass(frozen=True)
class LatencySurface:
    """Seconds per call, medians of interleaved runs.

    Attributes:
        grid, text_tokens, batch, heads, head_dim: the attention call measured.
        shares: ascending shares of video tokens kept at which attention was measured.
        attention: (shares of queries) x (shares of keys and values), seconds of one attention call.
        matching: stride to seconds of drawing a partition and matching one feature.
        gather_rates: ascending reduction rates at which gathering was measured.
        gather_q: seconds of planning, gathering the queries and restoring the output, at each gather rate.
        gather_v: seconds of planning and gathering keys and values, at each gather rate.
        residual: what restoring with memory takes beyond; where it was not measured, that is taken to be as much as
            gathering and restoring queries.
    """

    grid: Grid
    text_tokens: int
    batch: int
    heads: int
    head_dim: int
    shares: tuple[float, ...]
    attention: tuple[tuple[float, ...], ...]
    matching: dict[str, float]
    gather_rates: tuple[float, ...]
    gather_q: tuple[float, ...]
    gather_v: tuple[float, ...]
    residual: ResidualLatency | None = None

    def attention_seconds(self, rate_q: float | np.ndarray, rate_v: float | np.ndarray) -> np.ndarray:
        """Seconds of one attention call at the given reduction rates, which broadcast; linear between points.

        Below the lowest shares the line goes on to their halves, but never below a quarter of the least time measured,
        which is what half the queries and half the keys cost at least.
        """
        q, v = np.broadcast_arrays(1 - np.asarray(rate_q, dtype=float), 1 - np.asarray(rate_v, dtype=float))
        interpolate = RegularGridInterpolator(
            (self.shares, self.shares), np.asarray(self.attention), bounds_error=False, fill_value=None
        )
        points = np.stack([q.ravel(), v.ravel()], axis=-1)
        seconds = interpolate(np.maximum(points, self.shares[0] / 2)).reshape(q.shape)
        return np.maximum(seconds, self.attention[0][0] / 4)

    def gather_seconds(self, feature: str, rate: float | np.ndarray) -> np.ndarray:
        """Seconds of planning, gathering and (queries) restoring at a rate; 0 at rate 0.

        Args:
            feature: "Q" or "V".
            rate: reduction rates of any shape.
        """
        rate = np.asarray(rate, dtype=float)
        seconds = np.interp(rate, self.gather_rates, self.gather_q if feature == "Q" else self.gather_v)
        return np.where(rate > 0, seconds, 0.0)

    @property
    def memory(self) -> ResidualLatency:
        """`residual`, or what stands in for it."""
        guess = ResidualLatency(self.gather_rates, self.gather_q, self.gather_q, max(self.gather_q))
        return self.residual or guess

    def matching_seconds(self, stride: str) -> float:
        """Seconds of one matching.

        Raises:
            UsageError: the stride was not measured.
        """
        if stride not in self.matching:
            raise UsageError(f"Stride {stride} was not measured on this machine, only {', '.join(self.matching)}.")
        return self.matching[stride]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> LatencySurface:
        """Read back what `to_dict` gave, also after JSON turned tuples into lists.

        Raises:
            UsageError: something is missing or of a wrong shape.
        """
        try:
            residual = values.get("residual")
            surface = cls(
                **{name: values[name] for name in ("text_tokens", "batch", "heads", "head_dim")},
                grid=tuple(values["grid"]),
                shares=tuple(values["shares"]),
                attention=tuple(tuple(row) for row in values["attention"]),
                matching={stride: float(seconds) for stride, seconds in values["matching"].items()},
                gather_rates=tuple(values["gather_rates"]),
                gather_q=tuple(values["gather_q"]),
                gather_v=tuple(values["gather_v"]),
                residual=None if residual is None else ResidualLatency.from_dict(residual),
            )
            surface.attention_seconds(0.0, 0.0)
            gathering = *surface.gather_q, *surface.gather_v, *surface.memory.times
            times = *sum(surface.attention, ()), *surface.matching.values(), *gathering
            if not (np.isfinite(times).all() and min(times) >= 0 and surface.attention[0][0] > 0):
                raise ValueError("a time is no duration")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UsageError(f"The latency surface is damaged ({error}); measure it again.") from error
        return surface

    @classmethod
    def measure(
        cls,
        heads: int,
        head_dim: int,
        grid: Grid,
        text_tokens: int,
        batch: int,
        strides: Sequence[str],
        dtype: torch.dtype,
        device: torch.device | str,
        budget_seconds: float = 5.0,
        mask: Masking | None = None,
        backend: str | None = None,
    ) -> LatencySurface:
        """Measure with the library's own pieces on random data of the model's shapes.

        Every round runs everything once, in random order, so that a slow moment of the machine spreads over all
        points; the medians over rounds are then made monotone. Of large calls as many heads are timed as fit into
        `TIMING_BYTES`, and the seconds are those of all: heads are computed one beside the other.

        Args:
            heads, head_dim, batch: of one attention call.
            grid: (frames, height, width) in tokens.
            text_tokens: further tokens of the joint sequence.
            strides: strides whose matching is timed; gathering is timed with the first one.
            dtype, device: of the model.
            budget_seconds: rounds are repeated until so much time has gone, at least three times.
            mask: of the attention; None without one.
            backend: diffusers' attention backend, "" for the active one; None calls torch's attention directly.
        """
        device = torch.device(device)
        n = math.prod(grid)
        timed = timed_heads(heads, batch * (n + text_tokens) * head_dim * dtype.itemsize)
        q, k, v = (torch.randn(batch, timed, n + text_tokens, head_dim, dtype=dtype, device=device) for _ in range(3))
        if mask is not None and mask.shape[1] > 1:
            mask = replace(mask, shape=(mask.shape[0], timed, *mask.shape[2:]))
        attend, built = attention_operation(backend), None if mask is None else mask.build(device)

        def attention_job(share_q: float, share_v: float) -> Callable[[], object]:
            dropped_q, dropped_v = (round(n * (1 - share)) for share in (share_q, share_v))
            part_q, part_k, part_v = q[:, :, dropped_q:], k[:, :, dropped_v:], v[:, :, dropped_v:]
            if mask is None or built is None:
                return lambda: attend(part_q, part_k, part_v, None)
            cut_q, cut_k, uniform = _cut(q, dropped_q), _cut(k, dropped_v), mask.uniform
            # the runtime cuts the mask at every call, too
            return lambda: attend(part_q, part_k, part_v, reduce_mask(built, cut_q, cut_k, slice(0, n), uniform))

        jobs: dict[Any, Callable[[], object]] = {}
        for share_q in SHARES:
            for share_v in SHARES:
                jobs["attention", share_q, share_v] = attention_job(share_q, share_v)
        for stride in strides:
            jobs["match", stride] = _match_job(q[:, :, :n], grid, stride)
        partition = make_partition(grid, parse_stride(strides[0]), torch.Generator().manual_seed(0))
        match = Match.of(q[:, :, :n], partition)
        rates = np.linspace(0.05, 1, GATHER_POINTS) * max_rate(partition)
        for rate in rates.tolist():
            jobs["Q", rate] = _gather_job(match, rate, (q,), text_tokens, restore=True)
            jobs["V", rate] = _gather_job(match, rate, (k, v), text_tokens, restore=False)
        jobs |= residual_jobs(match, rates.tolist(), q, k)
        with torch.inference_mode():
            medians = _interleaved_medians(jobs, device, budget_seconds)
        seconds = {name: heads / timed * median for name, median in medians.items()}
        attention = np.array([[seconds["attention", a, b] for b in SHARES] for a in SHARES])
        attention = np.maximum.accumulate(np.maximum.accumulate(attention, axis=0), axis=1)
        return cls(
            grid=grid,
            text_tokens=text_tokens,
            batch=batch,
            heads=heads,
            head_dim=head_dim,
            shares=SHARES,
            attention=tuple(tuple(row) for row in attention.tolist()),
            matching={stride: seconds["match", stride] for stride in strides},
            gather_rates=tuple(rates.tolist()),
            gather_q=tuple(seconds["Q", rate] for rate in rates.tolist()),
            gather_v=tuple(seconds["V", rate] for rate in rates.tolist()),
            residual=ResidualLatency.of(rates.tolist(), seconds),
        )


def timed_heads(heads: int, head_bytes: int) -> int:
    """As many heads as are timed.

    Args:
        heads: of the attention call.
        head_bytes: of one head's queries, in all batch items.
    """
    return max(1, min(heads, (TIMING_BYTES - MATCHING_BYTES) // (COPIES * head_bytes)))


def attention_operation(backend: str | None) -> Attention:
    """The operation on (batch, heads, tokens, head dim) as the model calls it; see `LatencySurface.measure`."""
    if backend is None:
        return lambda q, k, v, mask: F.scaled_dot_product_attention(q, k, v, mask)
    chosen = attention_dispatch.AttentionBackendName(backend) if backend else None

    def dispatch(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        return attention_dispatch.dispatch_attention_fn(q, k, v, mask, backend=chosen).transpose(1, 2)

    return dispatch


def _cut(x: torch.Tensor, dropped: int) -> Plan | None:
    """The plan that drops the first tokens of (batch, heads, tokens, head dim); None where there is none to drop."""
    if dropped == 0:
        return None
    index = torch.arange(x.shape[2], dtype=torch.int32, device=x.device).expand(*x.shape[:3])
    return Plan(take=index[..., dropped:], back=index)


def _match_job(features: torch.Tensor, grid: Grid, stride: str) -> Callable[[], object]:
    def job() -> object:
        return Match.of(features, make_partition(grid, parse_stride(stride), torch.Generator().manual_seed(0)))

    return job


def _gather_job(
    match: Match, rate: float, tensors: tuple[torch.Tensor, ...], text_tokens: int, restore: bool
) -> Callable[[], object]:
    def job() -> object:
        plan = match.plan(rate).joint(0, text_tokens)
        reduced = [plan.reduce(x) for x in tensors]
        return gather_tokens(reduced[0], plan.back) if restore else reduced

    return job


def _interleaved_medians(
    jobs: dict[Any, Callable[[], object]], device: torch.device, budget_seconds: float
) -> dict[Any, float]:
    for job in jobs.values():  # warm up
        job()
    times: dict[Any, list[float]] = {name: [] for name in jobs}
    order = random.Random(0)
    began = now(device)
    for done in range(ROUNDS[1]):
        if done >= ROUNDS[0] and now(device) - began > budget_seconds:
            break
        for name in order.sample(list(jobs), len(jobs)):
            start = now(device)
            jobs[name]()
            times[name].append(now(device) - start)
    return {name: float(np.median(values)) for name, values in times.items()}

"""Blocks of the real models at their full numbers of tokens on a CPU: does it work, what does it keep, is it right?

    python benchmarks/rehearsal.py                        # all models, on one thread; writes docs/full-size.md
    python benchmarks/rehearsal.py --only mochi
    python benchmarks/rehearsal.py --quick                # a few tokens, only to see that it runs

Of every model one block of each kind, of the true configuration but for fewer heads, with random weights in bfloat16:
its sites are timed as the preflight does, two steps are profiled, one step is reduced, and the model is restored. What
is allocated beside the model is counted by PyTorch's profiler. Of sequences of more than 20,000 tokens attention is
computed for every so manyth query alone, whose output the queries after it take: which queries those are changes
neither shapes nor what is allocated. Rows of the reduced step are compared with numpy.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
import torch.nn.functional as F
from rehearsal_cases import CASES, Case
from rehearsal_oracle import attention_rows, match
from rehearsal_report import write
from rich.progress import track
from timing import parse_arguments

import asymrnr
from asymrnr.engine import Engine
from asymrnr.partition import Grid, make_partition, window_seed
from tuner.latency import surface
from tuner.models import REGISTRY
from tuner.profile.footprint import CallShape, kept_bytes, passing_bytes
from tuner.profile.profiler import Profiler
from tuner.profile.settings import ProfilerSettings
from tuner.run.allocations import allocations
from tuner.run.identity import environment
from tuner.search.space import load_space_of
from tuner.strides import parse_stride
from tuner.throughput import Throughput, measure

WHOLE = 20_000  # tokens up to which attention is computed for all queries
QUERIES = 4096  # computed of longer ones
TIMED_QUERIES = 512  # while shapes are timed
RATES = {"Q": 0.7, "V": 0.3}  # of the reduced step, as in the paper's table 8
CHECKED = 64  # rows
STEPS = 2
GAPS = 6  # of the search spaces
QUICK: Grid = (4, 6, 8)


@contextmanager
def some_queries(most: int, whole: int = WHOLE) -> Iterator[None]:
    """Compute attention over more than so many tokens for at most so many queries, evenly spaced."""
    original = F.scaled_dot_product_attention

    def attend(
        query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, attn_mask: Any = None, *args: Any, **more: Any
    ) -> torch.Tensor:
        every = -(-query.shape[2] // most)
        if key.shape[2] <= whole or every == 1:
            return original(query, key, value, attn_mask, *args, **more)
        if attn_mask is not None and attn_mask.shape[-2] > 1:
            attn_mask = attn_mask[..., ::every, :]
        some = original(query[:, :, ::every], key, value, attn_mask, *args, **more)
        return some.repeat_interleave(every, dim=2)[:, :, : query.shape[2]]

    with patch.object(F, "scaled_dot_product_attention", attend):
        yield


class Rehearsal:
    """One model under rehearsal."""

    def __init__(self, case: Case, quick: bool) -> None:
        self.case, self.grid = case, QUICK if quick else case.grid
        torch.manual_seed(0)
        torch.set_default_dtype(torch.bfloat16)
        try:
            self.model = case.build(case.rehearsed).eval().requires_grad_(False)
            with torch.no_grad():
                for parameter in self.model.parameters():  # zero-initialised gates would hide the attention
                    if not parameter.any():
                        parameter.normal_(std=0.02)
            self.inputs = case.inputs(case.batch, self.grid, case.text, "cpu", False)
        finally:
            torch.set_default_dtype(torch.float32)
        if "image_rotary_emb" in self.inputs:
            self.inputs["image_rotary_emb"] = tuple(part.float() for part in self.inputs["image_rotary_emb"])  # type: ignore[assignment]
        self.space = load_space_of(REGISTRY[case.entry])
        self.calls: dict[int, asymrnr.AttentionCall] = {}

    @torch.inference_mode()
    def step(self, timestep: int = 900) -> tuple[torch.Tensor, float]:
        """What the model gives, and CPU seconds."""
        time_input = torch.full((self.case.batch,), timestep, dtype=torch.long)
        start = time.process_time()
        output = self.model(timestep=time_input, return_dict=False, **self.inputs)[0]
        return output, time.process_time() - start

    def shape(self, heads: int) -> CallShape:
        return CallShape(
            self.case.batch // (2 if self.case.entry == "mochi" else 1), heads, self.case.head_dim, self.grid, 2
        )

    def settings(self, steps: int) -> ProfilerSettings:
        space = self.space
        return ProfilerSettings(space.strides, space.cache_steps, space.rates, steps, memory_gaps=min(GAPS, steps - 1))

    def profiling(self) -> dict[str, float]:
        """Two steps under the profiler."""
        settings = self.settings(STEPS)
        profiler, kept, passing = Profiler(settings), 0, 0

        def observer(call: asymrnr.AttentionCall) -> None:
            nonlocal kept, passing
            with allocations() as found:
                profiler(call)
            kept, passing = kept + found.kept, max(passing, found.peak)
            if call.step == 0:
                self.calls.setdefault(call.block, call)

        start = time.process_time()
        with asymrnr.observe(self.model, observer):
            for number in range(STEPS):
                self.step(900 - 100 * number)
        took = time.process_time() - start
        profile = profiler.finish("", {}, "", 0)
        assert all(np.isfinite(table).all() for table in profile.raw_similarity.values())
        shape, places = self.shape(self.case.rehearsed), profile.blocks * (2 if self.case.entry == "mochi" else 1)
        return {
            "profile_seconds": took,
            "profile_kept": kept,
            "profile_kept_forecast": places * kept_bytes(shape, settings),
            "profile_passing": passing,
            "profile_passing_forecast": passing_bytes(shape),
        }

    def at_all_heads(self) -> dict[str, float]:
        """What is taken at full size: an attention call of all heads, whose tensors are one number, and a forecast.

        Matching is replaced by drawn destinations there: it was rehearsed, and takes long.
        """
        case, tokens = self.case, math.prod(self.grid)
        shape = self.shape(case.heads)
        one = torch.zeros(1, 1, 1, 1, dtype=torch.bfloat16)
        joint = one.expand(shape.batch, case.heads, tokens + case.text, case.head_dim)
        hidden = one[0].expand(shape.batch, tokens, case.heads * case.head_dim)
        call = asymrnr.AttentionCall(
            0, 0, 900.0, "", 0, self.grid, slice(0, tokens), joint, joint, joint, joint, hidden
        )

        def drawn(features: torch.Tensor, partition: Any, *_: Any) -> tuple[torch.Tensor, torch.Tensor]:
            size = (*features.shape[:2], partition.src.numel())
            return torch.rand(size), torch.randint(partition.dst.numel(), size, dtype=torch.int32)

        settings = self.settings(case.steps)
        profiler = Profiler(settings)
        with patch("asymrnr.reduction.match_tokens", drawn), allocations() as found:
            profiler(call)
        kept = case.blocks * case.calls * kept_bytes(shape, settings)
        return {"full_passing": found.peak, "full_kept_forecast": kept, "full_profile": kept + found.peak}

    def timing(self) -> dict[str, float]:
        """What the micro-benchmark takes at all heads, every piece run once."""

        def once(jobs: dict[Any, Callable[[], object]], *_: Any) -> dict[Any, float]:
            seconds = {}
            for name, job in jobs.items():
                start = time.process_time()
                job()
                seconds[name] = time.process_time() - start
            return seconds

        case = self.case
        pieces = some_queries(TIMED_QUERIES, 0), patch.object(surface, "_interleaved_medians", once)
        shape = (case.heads, case.head_dim, self.grid, case.text, self.shape(case.heads).batch)
        with pieces[0], pieces[1], allocations() as found:
            surface.LatencySurface.measure(*shape, self.space.strides[:1], torch.bfloat16, "cpu")
        return {"timing_bytes": found.peak}

    def reduced(self, plain: torch.Tensor) -> dict[str, float]:
        """A reduced step against numpy, what it keeps, and the model restored."""
        blocks = len(self.calls)
        stride, rates = parse_stride(self.space.strides[0]), {f: np.full((blocks, 1), r) for f, r in RATES.items()}
        schedule = asymrnr.Schedule(rates, stride=stride, cache_step=1)
        outputs: list[torch.Tensor] = []
        original = Engine.attend

        def attend(engine: Engine, site: Any, query: torch.Tensor, *rest: Any) -> torch.Tensor:
            output = original(engine, site, query, *rest)
            if site.row == 0 and not outputs and query.dim() == 4:
                outputs.append(output if rest[3] == "bhsd" else output.transpose(1, 2))
            return output

        with (
            patch.object(Engine, "attend", attend),
            asymrnr.apply(self.model, schedule) as handle,
            ExitStack() as stack,
        ):
            found = stack.enter_context(allocations())
            output, seconds = self.step()
            del output
            stack.close()
            handle.summary()
            wrong, rows = self.against_numpy(outputs[0], schedule)
        again, _ = self.step()
        shape = self.shape(self.case.rehearsed)
        return {
            "reduced_seconds": seconds,
            "cache_bytes": found.kept - outputs[0].untyped_storage().nbytes(),
            "cache_forecast": blocks * (2 if self.case.entry == "mochi" else 1) * cache_bytes(shape, schedule),
            "oracle_error": wrong,
            "oracle_rows": rows,
            "restored": float(torch.equal(again, plain)),
        }

    def against_numpy(self, output: torch.Tensor, schedule: asymrnr.Schedule) -> tuple[float, int]:
        """Relative error of sampled rows of the first block's first head, and how many there were."""
        call, matched = self.calls[0], {}
        for feature, joint in (("Q", call.query), ("V", call.value)):
            generator = torch.Generator().manual_seed(window_seed(schedule.seed, feature, 0, 0))
            partition = make_partition(self.grid, schedule.stride, generator)
            x = joint[0, 0, call.video].float().numpy()
            matched[feature] = match(x, partition.dst.numpy(), partition.src.numpy(), RATES[feature])
        q, v = matched["Q"], matched["V"]
        kept = int(q.kept.sum()) + self.case.text * (call.query.shape[2] > call.video.stop)
        every = 1 if call.key.shape[2] * (1 - RATES["V"]) <= WHOLE else -(-kept // QUERIES)
        place = self.places(call, schedule)[call.video]
        usable = np.flatnonzero(q.sure & (place % every == 0))
        rows = np.random.default_rng(0).permutation(usable)[:CHECKED]
        want = attention_rows(call.query[0, 0], call.key[0, 0], call.value[0, 0], call.video, rows, q, v)
        got = output[0, 0, call.video][torch.from_numpy(rows)].double().numpy()
        return float(np.linalg.norm(got - want) / np.linalg.norm(want)), len(rows)

    def places(self, call: asymrnr.AttentionCall, schedule: asymrnr.Schedule) -> np.ndarray:
        """Where the runtime looks up every joint token's result: says which rows were computed, nothing else."""
        generator = torch.Generator().manual_seed(window_seed(schedule.seed, "Q", 0, 0))
        partition = make_partition(self.grid, schedule.stride, generator)
        made = asymrnr.reduction.Match.of(call.query[:1, :1, call.video], partition).plan(RATES["Q"])
        back = made.joint(call.video.start, call.query.shape[2] - call.video.stop).back
        return back[0, 0].numpy()


def cache_bytes(shape: CallShape, schedule: asymrnr.Schedule) -> float:
    """Of one attention call whose Q and V are reduced: matchings, plans, and where the tokens are."""
    tokens, share = shape.tokens, 1 / math.prod(schedule.stride)
    return sum(tokens * (8 * (1 - share) + 4 * (2 - rate)) + 8 * math.prod(shape.grid) for rate in RATES.values())


def forecast(case: Case, grid: Grid, on: Throughput) -> dict[str, float]:
    """Seconds of a plain step and of a reduced one, from operations and what this machine computes."""
    width, tokens = case.rehearsed * case.head_dim, math.prod(grid)
    blocks = case.blocks_of(width)
    linear = sum(2 * case.batch * (tokens * (b.video_attention + b.video_rest) + case.text * b.text) for b in blocks)

    def attention(rate_q: float, rate_v: float) -> float:
        queries, keys = (tokens * (1 - rate) + case.text for rate in (rate_q, rate_v))
        computed = queries if keys <= WHOLE else queries / -(-queries // QUERIES)
        return 4 * case.batch * len(blocks) * computed * keys * width

    share = 1 / math.prod(parse_stride(load_space_of(REGISTRY[case.entry]).strides[0]))
    matching = 2 * 2 * case.batch * len(blocks) * tokens**2 * share * (1 - share) * width
    return {
        "plain_forecast": on.seconds(attention(0, 0), linear),
        "reduced_forecast": on.seconds(attention(*RATES.values()), linear + matching),
    }


def rehearse(name: str, quick: bool, on: Throughput) -> dict[str, Any]:
    """All of one model."""
    case, start = CASES[name], time.process_time()
    rehearsal = Rehearsal(case, quick)
    with some_queries(QUERIES):
        rehearsal.step()  # warms up
        with allocations() as own:
            plain, seconds = rehearsal.step()
        found = {"plain_seconds": seconds, "step_bytes": own.peak, **rehearsal.profiling(), **rehearsal.reduced(plain)}
    found |= rehearsal.at_all_heads() | rehearsal.timing() | forecast(case, rehearsal.grid, on)
    tokens = math.prod(rehearsal.grid)
    sizes = {"tokens": tokens, "text": case.text, "heads": case.heads, "rehearsed": case.rehearsed}
    built = {"built": len(case.blocks_of(1)), "blocks": case.blocks, "entry": case.entry, "calls": case.calls}
    return {"name": name, **sizes, **built, **found, "seconds": time.process_time() - start}


def main() -> None:
    arguments = parse_arguments(__doc__, "rehearsal", rounds=1, cpu_only=True, only=tuple(CASES))
    torch.set_num_threads(1)
    on = measure(torch.device("cpu"), clock=time.process_time)
    rows = []
    for name in track(arguments.only, description="rehearsal"):
        rows.append(rehearse(name, arguments.quick, on))
        content = {"environment": environment(), "throughput": vars(on), "rows": rows}
        arguments.output.write_text(json.dumps(content, indent=1) + "\n")
    if not arguments.quick:
        write(content)


if __name__ == "__main__":
    main()

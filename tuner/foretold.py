"""What a run is expected to take before it spends anything, and beside that what it took."""

from __future__ import annotations

import torch

from tuner.context import Context
from tuner.forecast import CARDS, GB, HOUR, budget_for, generation_seconds, needs
from tuner.models.figures import FIGURES
from tuner.parts import parts_of
from tuner.run.store import PEAK


def expected(ctx: Context) -> tuple[float, float]:
    """Generations of the whole run, where all goes well and at the most."""
    least = sum(part.least for part in parts_of(ctx))
    return min(least, ctx.ledger.budget_ie), ctx.ledger.budget_ie


def foretell(ctx: Context) -> str:
    """Generations, hours and memory, as far as they are known; estimates."""
    least, most = expected(ctx)
    said = [f"{least:.0f} generations where all goes well, at most {most:.0f}"]
    seconds = ctx.ledger.unit_seconds or _estimated_seconds(ctx)
    if seconds is not None:
        said.append(f"{_time(least * seconds)} to {_time(most * seconds)}")
    memory = _memory(ctx)
    if memory is not None:
        said.append(f"{memory[0]:.0f} GB of memory, {memory[1]:.1f} of them for profiling")
    return "; ".join(said)


def compared(ctx: Context) -> str | None:
    """What was expected and what became of it: generations, time, and a GPU's memory.

    Returns:
        One sentence; None before a generation's time is known.
    """
    seconds = ctx.ledger.unit_seconds
    if seconds is None:
        return None
    least, most = expected(ctx)
    took = sum(row["seconds"] for row in ctx.ledger.rows())
    said = (
        f"{least:.1f} to {most:g} generations, {_time(least * seconds)} to {_time(most * seconds)}; it took "
        f"{ctx.ledger.spent_ie:.1f}, {_time(took)}"
    )
    lines, memory = ctx.instrument.store.lines(), _memory(ctx)
    peak = max((line["values"].get(PEAK, 0) for line in lines), default=0)
    if peak > 0 and memory is not None:
        said += f"; {memory[0]:.0f} GB of memory; at most {peak / GB:.1f} GB were allocated"
    return said


def shorten(ctx: Context) -> None:
    """Of a model whose generations take long, few are spent where the user did not say how many."""
    options = ctx.options
    if options.budget_chosen:
        return
    least = sum(part.least for part in parts_of(ctx))
    allowed = budget_for(ctx.ledger.unit_seconds, least, options.budget, len(options.also))
    ctx.ledger.budget_ie -= options.budget - allowed
    ctx.report_budget()


def _estimated_seconds(ctx: Context) -> float | None:
    """Of one generation, by the name of the GPU; None where nothing is known of either."""
    if not ctx.options.device.startswith("cuda") or ctx.entry.name not in FIGURES:
        return None
    name = torch.cuda.get_device_name(ctx.options.device).replace(" ", "").lower()
    card = next((card for key, card in CARDS.items() if key in name), None)
    return None if card is None else generation_seconds(ctx.entry.name, card)[0]


def _memory(ctx: Context) -> tuple[float, float] | None:
    """GB at the peak and what profiling adds to it; None for a workload of which nothing is known."""
    asked = (ctx.options.workload.frames, ctx.options.workload.height, ctx.options.workload.width)
    if ctx.entry.name not in FIGURES or asked != (None, None, None):
        return None
    memory = needs(ctx.entry, ctx.space)
    peaks = memory.peaks(ctx.options.load, ctx.options.memory or 0.0)
    return max(peaks.values()), memory.profile


def _time(seconds: float) -> str:
    return f"{seconds / HOUR:.1f} h" if seconds >= HOUR else f"{seconds / 60:.1f} min"

"""What a run is expected to take before it spends anything, and beside that what it took."""

from __future__ import annotations

import torch

from tuner.context import Context
from tuner.forecast import CARDS, HOUR, budget_for, generation_seconds, needs
from tuner.models.figures import FIGURES
from tuner.parts import parts_of


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
    asked = (ctx.options.workload.frames, ctx.options.workload.height, ctx.options.workload.width)
    if ctx.entry.name in FIGURES and asked == (None, None, None):
        memory = needs(ctx.entry, ctx.space)
        peaks = memory.peaks(ctx.options.load.offload == "model", ctx.options.memory or 0.0)
        said.append(f"{max(peaks.values()):.0f} GB of memory, {memory.profile:.1f} of them for profiling")
    return "; ".join(said)


def compared(ctx: Context) -> str | None:
    """What was expected of generations and time and what became of it; None before a generation's time is known."""
    seconds = ctx.ledger.unit_seconds
    if seconds is None:
        return None
    least, most = expected(ctx)
    took = sum(row["seconds"] for row in ctx.ledger.rows())
    return (
        f"{least:.1f} to {most:g} generations, {_time(least * seconds)} to {_time(most * seconds)}; it took "
        f"{ctx.ledger.spent_ie:.1f}, {_time(took)}"
    )


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


def _time(seconds: float) -> str:
    return f"{seconds / HOUR:.1f} h" if seconds >= HOUR else f"{seconds / 60:.1f} min"

"""`asymrnr-tune plan`: what a run would take, before a GPU is rented for it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from tuner.commands.options import Model, speedup_from
from tuner.commands.validation import check_targets
from tuner.errors import UsageError


def plan(
    model: Model,
    device: Annotated[str, typer.Option("--device", help="a100, h100, h200 or rtx4090.")] = "h100",
    target_speedup: Annotated[
        float, typer.Option("--target-speedup", parser=speedup_from, metavar="X", help="To certify.")
    ] = 1.2,
    also: Annotated[
        list[float] | None, typer.Option("--also", parser=speedup_from, metavar="X", help="Further ones.")
    ] = None,
    generation_seconds: Annotated[
        float | None,
        typer.Option(help="Of one unaccelerated generation, if you know better.", show_default="an estimate"),
    ] = None,
    measured: Annotated[
        Path | None, typer.Option(help="Throughput of a device of your own, by `python -m tuner.throughput FILE`.")
    ] = None,
    price: Annotated[float | None, typer.Option(help="Of an hour of the device.", show_default="none")] = None,
) -> None:
    """Estimate generations, hours, money and memory of a run from shapes; no weights and no GPU are needed."""
    from tuner.context import ALSO_IE, BUDGET
    from tuner.forecast import CARDS, GB, HOUR, PLAIN, TUNED, WAYS, budget_for, card_of, generations, needs
    from tuner.forecast import generation_seconds as estimated
    from tuner.models import find_model
    from tuner.models.figures import FIGURES
    from tuner.parts import parts
    from tuner.search.space import load_space_of
    from tuner.throughput import Throughput

    entry, targets = find_model(model), tuple(also or ())
    check_targets([target_speedup, *targets])
    if model not in FIGURES:
        raise UsageError(f"Nothing is known of how large {model} is; plan one of {', '.join(FIGURES)}.")
    if measured is None and device not in CARDS:
        raise UsageError(f"Nothing is known of '{device}'; give one of {', '.join(CARDS)}.")
    if generation_seconds is not None and not generation_seconds > 0:
        raise UsageError(f"--generation-seconds is {generation_seconds:g}; give more than 0.")
    card = CARDS[device] if measured is None else card_of(Throughput.load(measured), model)
    seconds, origin = estimated(model, card) if generation_seconds is None else (generation_seconds, "as told")
    planned = parts(entry.workload.steps, target_speedup, targets, compare=False)
    otherwise = BUDGET + ALSO_IE * len(targets)
    budget = budget_for(seconds, sum(part.least for part in planned), otherwise, len(targets))
    least, most = generations(planned, budget)
    console = Console()
    console.print(f"{model}, {entry.workload}, on one {card.title}: estimates, nothing was measured", highlight=False)
    table = Table(show_header=False, box=None, padding=(0, 2))
    table.add_row("one generation", f"{seconds / 60:.1f} min ({origin})")
    table.add_row("the run", f"{least:.0f} generations where all goes well, at most {most:.0f}")
    table.add_row("", f"{least * seconds / HOUR:.1f} h to {most * seconds / HOUR:.1f} h")
    if price is not None:
        table.add_row("", f"{least * seconds / HOUR * price:.2f} to {most * seconds / HOUR * price:.2f} in money")
    pays = least / (1 - 1 / target_speedup)
    table.add_row("pays after", f"{pays:.0f} videos at {target_speedup:g}x")
    memory = needs(entry, load_space_of(entry))
    limit = card.memory / 4
    table.add_row("weights", f"{memory.weights:.1f} GB, and {memory.text:.1f} GB of text encoders")
    table.add_row("a pass beside them", f"{memory.one_pass:.1f} GB")
    table.add_row("profiling adds", f"{memory.profile:.1f} GB at most")
    table.add_row(
        "a schedule keeps", f"at most {memory.schedule:.1f} GB; --memory limits it, to {limit:g} GB if not said"
    )
    for way, load in WAYS.items():
        peaks = memory.peaks(load, limit)
        short = {name: f"{name} {peak:.0f} GB" for name, peak in peaks.items() if peak > card.memory}
        fits = f"fits; the most is {max(peaks.values()):.0f} GB"
        if short:
            fits = f"does not fit: {', '.join(short.values())}"
        if list(short) == [TUNED]:
            fits += f"; with --memory {(card.memory - peaks[PLAIN]) * GB / 2**30:.1f} it would"
        table.add_row(f"with {way}" if way.startswith("--") else way, fits)
        if not short:
            break
    console.print(table, highlight=False)

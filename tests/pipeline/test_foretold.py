"""What is said of a run before it spends anything, and beside that what it took."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.pipeline.conftest import SilentProgress
from tuner.context import BUDGET, Context, TuneOptions
from tuner.forecast import GB, LONG_BUDGET, PREFLIGHT
from tuner.foretold import compared, expected, foretell, shorten
from tuner.models import REGISTRY
from tuner.parts import parts_of
from tuner.run.instrument import Instrument
from tuner.run.ledger import Ledger
from tuner.run.store import PEAK, MeasurementStore
from tuner.search.space import load_space_of


def context(folder: Path, model: str = "hunyuanvideo", seconds: float | None = None, **options: Any) -> Context:
    asked = TuneOptions(model, 1.3, folder, **options)
    ledger = Ledger(asked.budget, seconds)
    instrument = Instrument(MeasurementStore(folder), ledger, {})
    return Context(asked, REGISTRY[model], instrument, load_space_of(REGISTRY[model]), SilentProgress())


def test_generations_and_memory_are_said_before_anything_is_measured(tmp_path: Path) -> None:
    said = foretell(context(tmp_path))
    least, most = expected(context(tmp_path))
    assert 10 < least < 14
    assert most == BUDGET
    assert said.startswith(f"{least:.0f} generations where all goes well, at most 55; ")
    assert "GB of memory" in said
    assert " h to " not in said


def test_time_is_said_as_soon_as_it_is_known(tmp_path: Path) -> None:
    assert " h to " in foretell(context(tmp_path, seconds=900.0))
    assert "GB of memory" not in foretell(context(tmp_path, "tiny-cogvideox", 5.0))


def test_the_report_compares_it_with_what_happened(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    assert compared(ctx) is None
    ctx.ledger.unit_seconds = 60.0
    ctx.ledger.charge("profile", 90.0)
    ctx.ledger.charge("certify", 600.0)
    found = compared(ctx)
    assert found is not None
    assert found.endswith("; it took 11.5, 11.5 min")


def test_so_does_it_with_the_memory_of_a_gpu(tmp_path: Path) -> None:
    ctx = context(tmp_path, seconds=60.0)
    for name, gigabytes in (("plain", 44.0), ("profile", 46.25), ("pair", 45.0)):
        ctx.instrument.store.put(ctx.instrument.key(name), {PEAK: int(gigabytes * GB)})
    said, found = foretell(ctx), compared(ctx)
    assert found is not None
    forecast = said.split("; ")[-1].split(" GB of memory")[0]
    assert found.endswith(f"; {forecast} GB of memory; at most 46.2 GB were allocated")


@pytest.mark.parametrize(
    ("seconds", "options", "budget"),
    [
        (1_620.0, {"budget_chosen": False}, 12.05 + PREFLIGHT),  # as many as it takes where all goes well
        (1_620.0, {"budget_chosen": False, "also": (1.5,), "budget": 80.0}, 2 * LONG_BUDGET),
        (1_620.0, {"budget": 33.0}, 33.0),
        (60.0, {"budget_chosen": False}, BUDGET),
        (None, {"budget_chosen": False}, BUDGET),
    ],
)
def test_long_generations_are_few_unless_more_are_asked_for(
    seconds: float | None, options: dict[str, Any], budget: float, tmp_path: Path
) -> None:
    ctx = context(tmp_path, seconds=seconds, **options)
    shorten(ctx)
    assert ctx.ledger.budget_ie == pytest.approx(budget, abs=0.01)


def test_a_run_on_a_model_of_27_minutes_fits_twelve_generations_most_of_them_certification(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    ctx = Context(ctx.options, ctx.entry.with_workload(steps=50), ctx.instrument, ctx.space, ctx.progress)
    parts = {part.name: part.least for part in parts_of(ctx)}
    assert sum(parts.values()) <= LONG_BUDGET
    assert parts["certify"] > sum(parts.values()) / 2

"""Forecasts: what they say, and that profiling stays below its ceiling; tests/profile holds it against allocations."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from tuner.ceilings import PROFILING_BYTES
from tuner.cli import app
from tuner.errors import UsageError
from tuner.forecast import CARDS, generation_seconds, needs, profiling_bytes
from tuner.models import REGISTRY
from tuner.models.figures import FIGURES
from tuner.paper.architectures import ARCHITECTURES
from tuner.paper.counter import count_flops
from tuner.search.space import load_space_of


@pytest.mark.parametrize("model", FIGURES)
def test_every_model_can_be_planned_on_every_card(model: str) -> None:
    for card in CARDS:
        done = CliRunner().invoke(
            app,
            ["plan", "--model", model, "--device", card, "--target-speedup", "1.3", "--also", "1.5", "--price", "2"],
        )
        assert done.exit_code == 0, done.output
        for part in ("one generation", "in money", "videos at 1.3x", "estimates, nothing was measured"):
            assert part in " ".join(done.output.split())


def test_the_papers_times_are_taken_where_it_took_such_a_card() -> None:
    assert generation_seconds("mochi", "h100") == (201.85, "measured in the paper")
    seconds, origin = generation_seconds("mochi", "a100")
    assert seconds == pytest.approx(count_flops(ARCHITECTURES["mochi"]).baseline_flops / 91e12)
    assert origin.startswith("at 91 TFLOP/s; ")


def test_the_speed_of_a_card_is_what_the_papers_times_amount_to() -> None:
    for card in ("a100", "h100"):
        speeds = [
            count_flops(ARCHITECTURES[model]).baseline_flops / known.seconds / 1e12
            for model, known in FIGURES.items()
            if known.card == card and known.seconds is not None
        ]
        assert CARDS[card].speed == pytest.approx(np.mean(speeds), rel=0.01)


def test_offloading_leaves_the_text_encoders_out() -> None:
    memory = needs(REGISTRY["hunyuanvideo"], load_space_of(REGISTRY["hunyuanvideo"]))
    whole, less = memory.peaks(False, 20), memory.peaks(True, 20)
    assert all(whole[stage] - less[stage] == pytest.approx(memory.text) for stage in whole)
    assert whole["tuned generation"] - whole["plain generation"] == 20  # of 25 that all blocks would keep
    assert whole["profiling"] > whole["plain generation"]


@pytest.mark.parametrize("model", FIGURES)
def test_profiling_adds_at_most_what_it_may(model: str) -> None:
    entry, known = REGISTRY[model], FIGURES[model]
    adds = profiling_bytes(known, ARCHITECTURES[model], load_space_of(entry), entry.dtype.itemsize)
    assert 0 < adds <= PROFILING_BYTES
    sharper = replace(ARCHITECTURES[model], grid=(ARCHITECTURES[model].grid[0], 45, 80))  # 720 lines
    assert profiling_bytes(known, sharper, load_space_of(entry), entry.dtype.itemsize) <= PROFILING_BYTES


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--model", "animatediff"], "Nothing is known of how large animatediff is"),
        (["--model", "mochi", "--device", "abacus"], "Nothing is known of 'abacus'; give one of a100"),
        (["--model", "mochi", "--target-speedup", "0.9"], "more than 1"),
        (["--model", "mochi", "--generation-seconds", "0"], "give more than 0"),
    ],
)
def test_what_cannot_be_planned_is_said(arguments: list[str], says: str) -> None:
    done = CliRunner().invoke(app, ["plan", *arguments])
    assert isinstance(done.exception, UsageError)
    assert says in str(done.exception)

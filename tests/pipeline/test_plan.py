"""Forecasts: what they say, and that profiling stays below its ceiling; tests/profile holds it against allocations."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from tuner.ceilings import PROFILING_BYTES
from tuner.cli import app
from tuner.errors import UsageError
from tuner.forecast import (
    CARDS,
    PLAIN,
    PROFILING,
    TUNED,
    WAYS,
    card_of,
    generation_seconds,
    needs,
    profiling_bytes,
)
from tuner.models import REGISTRY
from tuner.models.figures import FIGURES
from tuner.paper.architectures import ARCHITECTURES
from tuner.paper.counter import count_flops
from tuner.search.space import load_space_of
from tuner.throughput import Throughput, measure


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
    assert generation_seconds("mochi", CARDS["h100"]) == (201.85, "measured in the paper")
    seconds, origin = generation_seconds("mochi", CARDS["a100"])
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
    whole, less, bits, group = (memory.peaks(load, 20) for load in WAYS.values())
    assert all(whole[stage] - less[stage] == pytest.approx(memory.text) for stage in whole)
    assert whole[TUNED] - whole[PLAIN] == 20  # of 25 that all blocks would keep
    assert whole[PROFILING] > whole[PLAIN]
    assert all(less[stage] - bits[stage] == pytest.approx(FIGURES["hunyuanvideo"].denoiser) for stage in whole)
    assert group[PLAIN] < bits[PLAIN] - 10


def test_what_makes_it_fit_is_said() -> None:
    """Each way fits or not, down to the first that does; where the schedule alone is too much, so is how much fits."""
    done = CliRunner().invoke(app, ["plan", "--model", "hunyuanvideo", "--device", "rtx4090"])
    said = " ".join(done.output.split())
    assert "as it is does not fit" in said
    assert (
        "with --offload model --quantize int8 does not fit: tuned generation 24 GB; with --memory 5.1 it would" in said
    )
    assert said.endswith("with --offload group fits; the most is 11 GB")


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


def test_a_device_of_ones_own_is_planned_by_what_was_measured_of_it(tmp_path: Path) -> None:
    path = tmp_path / "card.json"
    Throughput("a card of ours", 48.0, 100.0, 50.0).save(path)
    done = CliRunner().invoke(app, ["plan", "--model", "mochi", "--measured", str(path)])
    said = " ".join(done.output.split())
    assert "on one a card of ours" in said
    assert "100 measured of attention, 50 of linear layers" in said
    count = count_flops(ARCHITECTURES["mochi"])
    seconds = (count.attention_flops / 100 + (count.baseline_flops - count.attention_flops) / 50) / 1e12
    assert generation_seconds("mochi", card_of(Throughput.load(path), "mochi"))[0] == pytest.approx(seconds)


@pytest.mark.parametrize("text", [None, "{}", "no json", '{"title": "x", "memory": 1, "attention": 0, "linear": 1}'])
def test_throughputs_that_were_not_measured_are_refused(text: str | None, tmp_path: Path) -> None:
    path = tmp_path / "card.json"
    if text is not None:
        path.write_text(text)
    done = CliRunner().invoke(app, ["plan", "--model", "mochi", "--measured", str(path)])
    assert isinstance(done.exception, UsageError)


def test_throughput_is_measured_on_the_spot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, small in {"TOKENS": 64, "WIDTH": 32, "REPEATS": 2}.items():
        monkeypatch.setattr(f"tuner.throughput.{name}", small)
    found = measure(torch.device("cpu"), torch.float32)
    assert min(found.memory, found.attention, found.linear) > 0
    found.save(tmp_path / "card.json")
    assert Throughput.load(tmp_path / "card.json") == found


def test_few_generations_are_planned_where_they_take_long() -> None:
    arguments = ["plan", "--model", "hunyuanvideo", "--generation-seconds"]
    short, long = (" ".join(CliRunner().invoke(app, [*arguments, s]).output.split()) for s in ("600", "1620"))
    assert "at most 55" in short
    assert "at most 13" in long

"""An interrupted profile goes on where it was, and ends as if nothing had happened."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from asymrnr.adapters import find_adapter
from asymrnr.install import self_attentions
from tests.pipelines.tiny_pipelines import build, tiny_entry
from tuner.profile.checkpoint import STATE_NAME, Checkpoint
from tuner.profile.observed import Observed
from tuner.profile.profile import Profile
from tuner.profile.profiler import Profiler
from tuner.profile.settings import ProfilerSettings
from tuner.profile.watch import watch
from tuner.run.runner import Runner

STEPS = 9
SETTINGS = ProfilerSettings(
    strides=("1x2x2",),
    cache_steps=(2, 3),
    rates=(0.3, 0.5),
    total_steps=STEPS,
    memory_gaps=2,
    kl_every=3,
    kl_samples=16,
    persistence_every=6,
)


def profile_of(runner: Runner, checkpoint: Checkpoint | None, stop: int | None = None) -> tuple[Profile, torch.Tensor]:
    """The profile and the final latents; interrupted when so many steps have begun."""

    def progress(begun: int, _: int) -> None:
        if begun == stop:
            raise KeyboardInterrupt

    profiler = Profiler(SETTINGS, progress)
    generation = watch(runner, profiler, "a cat", 0, checkpoint)
    return profiler.finish("tiny", {}, "a cat", 0), generation.latents


def computed(runner: Runner) -> list[int]:
    """Grows with every call of a denoiser that computes its blocks."""
    calls: list[int] = []
    for model in runner.denoisers:
        self_attentions(model, find_adapter(model))[0].register_forward_hook(lambda *_: calls.append(1))
    return calls


def assert_same(found: Profile, want: Profile) -> None:
    for (values, arrays), (other_values, others) in [(found.to_record(), want.to_record())]:
        assert values == other_values
        assert arrays.keys() == others.keys()
        for name, array in arrays.items():
            np.testing.assert_allclose(array, others[name], rtol=1e-6, err_msg=name)  # sums over another layout


@pytest.mark.parametrize("name", ["cogvideox-2b", "wan-1.3b", "hunyuanvideo", "animatediff"])
@pytest.mark.parametrize("stop", [3, 8])
def test_it_goes_on_where_it_was(name: str, stop: int, tmp_path: Path) -> None:
    runner = Runner(build(name), tiny_entry(name, STEPS))
    want, latents = profile_of(runner, None)
    checkpoint = Checkpoint(tmp_path / "unfinished", "this")
    with pytest.raises(KeyboardInterrupt):
        profile_of(runner, checkpoint, stop)
    assert len(checkpoint.load()[1]) == stop - 1
    calls = computed(runner)
    found, again = profile_of(runner, checkpoint)
    assert torch.equal(again, latents)
    assert_same(found, want)
    begin, _ = Profiler(SETTINGS).looks_back(stop - 1)
    assert len(calls) % (STEPS - begin) == 0  # nothing before it was computed again
    calls.clear()
    profile_of(runner, None)
    assert len(calls) % STEPS == 0
    assert len(checkpoint.load()[1]) == STEPS
    assert all("forward" not in vars(model) for model in runner.denoisers)


def test_twice_interrupted_is_no_different(tmp_path: Path) -> None:
    runner = Runner(build("wan-1.3b"), tiny_entry("wan-1.3b", STEPS))
    want, _ = profile_of(runner, None)
    checkpoint = Checkpoint(tmp_path / "unfinished", "this")
    for stop in (5, 9):
        with pytest.raises(KeyboardInterrupt):
            profile_of(runner, checkpoint, stop)
    assert_same(profile_of(runner, checkpoint)[0], want)
    assert_same(profile_of(runner, checkpoint)[0], want)  # interrupted after its last step
    checkpoint.remove()
    assert not checkpoint.folder.exists()


@pytest.mark.parametrize(
    ("step", "begin", "counts"),
    [(0, 0, 0), (1, 0, 0), (5, 0, 0), (6, 4, 6), (7, 4, 6), (11, 4, 6), (12, 10, 12), (17, 10, 12), (18, 16, 18)],
)
def test_how_far_it_looks_back(step: int, begin: int, counts: int) -> None:
    assert Profiler(SETTINGS).looks_back(step) == (begin, counts)
    assert Profiler(replace(SETTINGS, persistence_every=100)).looks_back(50) == (48, 50)


def test_what_was_kept_of_something_else_or_is_damaged_counts_for_nothing(tmp_path: Path) -> None:
    runner = Runner(build("wan-1.3b"), tiny_entry("wan-1.3b", STEPS))
    folder = tmp_path / "unfinished"
    with pytest.raises(KeyboardInterrupt):
        profile_of(runner, Checkpoint(folder, "this"), 4)
    assert Checkpoint(folder, "other").load() == (Observed(), [])
    assert Checkpoint(tmp_path / "none", "this").load() == (Observed(), [])
    state = (folder / STATE_NAME).read_bytes()
    outputs = sorted(folder.glob("outputs-*"))[0]
    for path, content in ((folder / STATE_NAME, state[: len(state) // 2]), (outputs, b"")):
        whole = path.read_bytes()
        path.write_bytes(content)
        assert Checkpoint(folder, "this").load() == (Observed(), [])
        path.write_bytes(whole)
    assert len(Checkpoint(folder, "this").load()[1]) == 3


def test_a_full_disk_costs_the_checkpoint_only(tmp_path: Path) -> None:
    runner = Runner(build("wan-1.3b"), tiny_entry("wan-1.3b", STEPS))
    (tmp_path / "file").write_text("")
    checkpoint = Checkpoint(tmp_path / "file" / "unfinished", "this")  # cannot be made
    assert_same(profile_of(runner, checkpoint)[0], profile_of(runner, None)[0])

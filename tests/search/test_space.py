from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from asymrnr.resources import search_spaces_folder
from tuner.errors import UsageError
from tuner.search.space import SearchSpace, load_space, step_lengths

GOOD = "strides: [2x2x2]\ncache_steps: [5]\nrates: [0.0, 0.5]\n"
SHIPPED = sorted(search_spaces_folder().glob("*.yaml"))


def test_there_are_shipped_spaces() -> None:
    assert {"tiny-cogvideox", "cogvideox", "mochi", "hunyuanvideo"} <= {path.stem for path in SHIPPED}


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_space_loads_and_starts_from_rules_of_the_paper(path: Path) -> None:
    space = load_space(path)
    assert space.rates[0] == 0
    assert len(space.warm_starts) >= 2


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("strides: [", "YAML"),
        ("[]", "content"),
        (GOOD.replace("2x2x2", "2x2"), "strides"),
        (GOOD.replace("[5]", "[0]"), "cache_steps"),
        (GOOD.replace("[0.0, 0.5]", "[0.5, 0.0]"), "rates"),
        (GOOD.replace("0.5", "1.0"), "rates"),
        (GOOD + "colour: red\n", "colour"),
        (GOOD + "memory_gaps: 0\n", "memory_gaps"),
        (GOOD + "memory_rates_from: 0\n", "memory_rates_from"),
        (GOOD + "length_power: -1\n", "length_power"),
        (GOOD + "steering: []\n", "steering"),
        (GOOD + "warm_starts: [{name: a, stride: 3x2x2, Q: {0.5: 0.3}}]\n", "stride that is not"),
        (GOOD + "warm_starts: [{name: a, Q: {0.55: 0.3}}]\n", "multiples of 1/10"),
        (GOOD + "warm_starts: [{name: a, Q: {0.5: 0.3, 0.6: 0.2}}]\n", "ascending"),
    ],
)
def test_mistakes_end_in_one_sentence(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "space.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=complaint):
        load_space(path)


@pytest.mark.parametrize(
    ("steps", "windows"), [(30, (2, 5)), (10, (2, 5)), (8, (2, 4)), (5, (2,)), (3, (1,)), (2, (1,))]
)
def test_windows_are_no_longer_than_half_of_the_steps(tmp_path: Path, steps: int, windows: tuple[int, ...]) -> None:
    path = tmp_path / "space.yaml"
    starts = "warm_starts: [{name: a, cache_step: 5, Q: {0.5: 0.3}}, {name: b, Q: {0.5: 0.3}}]\n"
    path.write_text(GOOD.replace("[5]", "[2, 5]") + starts)
    space = load_space(path).for_steps(steps)
    assert space.cache_steps == windows
    assert [start.cache_step for start in space.warm_starts] == [windows[-1], None]
    assert SearchSpace.model_validate(space.model_dump()) == space


def test_steps_weigh_by_how_far_they_go() -> None:
    levels = np.array([1.0, 0.99, 0.98, 0.9, 0.7, 0.5])
    lengths = np.array([1.0, 1.0, 8.0, 20.0, 20.0]) / 10
    np.testing.assert_allclose(step_lengths(levels), lengths)
    np.testing.assert_allclose(step_lengths(np.array([0.9, 0.8, 0.8, 0.6])), np.array([1, 1, 2]) / (4 / 3))  # twice
    np.testing.assert_allclose(step_lengths(np.array([0.5, 0.0])), [1])
    np.testing.assert_allclose(step_lengths(np.array([0.5, 0.5, 0.5])), [1, 1])
    space = SearchSpace(strides=("2x2x2",), cache_steps=(5,), rates=(0.0, 0.5), reuse_weight=2.0)
    np.testing.assert_allclose(space.step_weights(levels), lengths)
    np.testing.assert_allclose(space.reuse_weights(levels), np.exp(2.0) * lengths**2)
    half = space.model_copy(update={"length_power": 0.5})
    np.testing.assert_allclose(half.step_weights(levels), lengths**0.5)
    np.testing.assert_allclose(half.reuse_weights(levels), space.reuse_weights(levels))


def test_steering_weights_follow_a_line_between_logarithms() -> None:
    space = SearchSpace(strides=("2x2x2",), cache_steps=(5,), rates=(0.0, 0.5), steering=(2.0, 0.0, 1.0, -1.0))

    def steering(steps: int) -> np.ndarray:
        return np.log(space.steering_weights(np.linspace(1, 0, steps + 1)))

    np.testing.assert_allclose(steering(4), [2, 0, 1, -1], atol=1e-12)  # moments are the middles of quarters
    np.testing.assert_allclose(steering(2), [1, 0], atol=1e-12)
    np.testing.assert_allclose(steering(8), [2, 1.5, 0.5, 0.25, 0.75, 0.5, -0.5, -1], atol=1e-12)
    levels = np.array([1.0, 0.9, 0.4, 0.1, 0.0])
    ratio = space.steering_weights(levels) / space.step_weights(levels)
    np.testing.assert_allclose(np.log(ratio), [2, 0, 1, -1], atol=1e-12)
    for steps in (1, 3, 50):
        assert steering(steps).shape == (steps,)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.yaml cannot be read"):
        load_space(tmp_path / "none.yaml")

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


def even(steps: int) -> np.ndarray:
    """Timesteps of a sampler all of whose steps are equally long."""
    return np.linspace(1000, 0, steps, endpoint=False)


def test_steering_weights_follow_a_line_between_logarithms() -> None:
    space = SearchSpace(strides=("2x2x2",), cache_steps=(5,), rates=(0.0, 0.5), steering=(2.0, 0.0, 1.0, -1.0))
    quarters = np.log(space.steering_weights(even(4)))
    np.testing.assert_allclose(quarters, [2, 0, 1, -1], atol=1e-12)  # moments are the middles of quarters
    np.testing.assert_allclose(np.log(space.steering_weights(even(2))), [1, 0], atol=1e-12)
    eight = np.log(space.steering_weights(even(8)))
    np.testing.assert_allclose(eight, [2, 1.5, 0.5, 0.25, 0.75, 0.5, -0.5, -1])  # the same before the first moment
    for steps in (1, 3, 50):
        assert space.steering_weights(even(steps)).shape == (steps,)
        assert (space.steering_weights(even(steps)) > 0).all()


def test_steps_weigh_by_their_length_in_either_direction() -> None:
    timesteps = np.array([1000.0, 990.0, 980.0, 900.0, 700.0])
    lengths = np.array([10.0, 10.0, 80.0, 200.0, 200.0])  # nobody says where the last one ends
    np.testing.assert_allclose(step_lengths(timesteps), lengths / 100)
    np.testing.assert_allclose(step_lengths(1000 - timesteps), step_lengths(timesteps))
    twice = np.array([900.0, 800.0, 800.0, 600.0])
    np.testing.assert_allclose(step_lengths(twice), np.array([100, 100, 200, 200]) / 150)
    np.testing.assert_allclose(step_lengths(np.array([5.0])), [1])
    space = SearchSpace(strides=("2x2x2",), cache_steps=(5,), rates=(0.0, 0.5))
    for weights in (space.step_weights, space.steering_weights, space.reuse_weights):
        np.testing.assert_allclose(weights(timesteps) / weights(even(5)), step_lengths(timesteps))


def test_the_last_steps_weigh_what_they_do_however_many_there_are() -> None:
    space = SearchSpace(
        strides=("2x2x2",), cache_steps=(5,), rates=(0.0, 0.5), reuse_steering=(1.0, 3.0), reuse_last=(4.0, 5.0)
    )
    np.testing.assert_allclose(np.log(space.reuse_weights(even(4))), [1, 1.5, 4, 5])
    np.testing.assert_allclose(np.log(space.reuse_weights(even(1))), [5])
    none = space.model_copy(update={"reuse_last": ()})
    np.testing.assert_allclose(np.log(none.reuse_weights(even(4))), [1, 1.5, 2.5, 3])


def test_one_steering_value_is_the_weight_of_all_steps() -> None:
    space = SearchSpace(strides=("2x2x2",), cache_steps=(5,), rates=(0.0, 0.5), steering=(0.7,))
    np.testing.assert_allclose(space.steering_weights(even(6)), np.exp(0.7))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.yaml cannot be read"):
        load_space(tmp_path / "none.yaml")

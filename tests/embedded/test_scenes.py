"""The world of scenes: captions, rendering, and a checker that reads both objects and the camera back from pixels."""

from __future__ import annotations

import pytest
import torch

from tuner.embedded.scenes import (
    CAMERAS,
    FRAMES,
    ORDERS,
    SIZE,
    TEXTURES,
    Scene,
    Thing,
    is_held_out,
    parse_caption,
    render,
    sample_scenes,
    simpler,
    vocabulary,
)
from tuner.embedded.scenes_checker import CHECKED, attributes_right, recover

RED, BLUE = Thing("red", "circle", "left"), Thing("blue", "bar", "up")
SCENE = Scene((RED, BLUE), "in front of", "speckled", "teal", "pans rightward")


def video(scene: Scene, seed: int = 0) -> torch.Tensor:
    return (render(scene, torch.Generator().manual_seed(seed)) + 1) / 2


def test_every_caption_parses_back_to_its_scene_in_words_that_are_known() -> None:
    for held_out in (False, True):
        for scene in sample_scenes(200, torch.Generator().manual_seed(1), held_out):
            assert parse_caption(scene.caption) == scene
            assert set(scene.caption.split()) <= set(vocabulary())
            assert is_held_out(scene) == held_out


@pytest.mark.parametrize("caption", ["", SCENE.caption.replace("blue", "red"), SCENE.caption + " again"])
def test_other_captions_are_refused_with_an_example(caption: str) -> None:
    with pytest.raises(ValueError, match=r"is not a caption of the embedded world of scenes; one is '") as caught:
        parse_caption(caption)
    assert parse_caption(str(caught.value).split("'")[-2])


def test_the_checker_reads_what_was_rendered() -> None:
    generator = torch.Generator().manual_seed(2)
    for scene in sample_scenes(150, generator):
        shown = (render(scene, generator) + 1) / 2
        assert attributes_right(shown, scene) == dict.fromkeys(CHECKED, True), scene.caption


def test_it_sees_what_is_wrong() -> None:
    shown = video(SCENE)
    for name, other in (("color", "green"), ("shape", "triangle"), ("direction", "down")):
        thing = Thing(**{**vars(BLUE), name: other})
        right = attributes_right(shown, Scene((RED, thing), *list(vars(SCENE).values())[1:]))
        expected = {key: key != name for key in CHECKED}
        if name == "color":  # nothing is known of an object that is not there
            expected |= {"shape": False, "direction": False}
        assert right == expected
    assert not attributes_right(shown, Scene((RED, BLUE), "in front of", "speckled", "teal", "pans leftward"))["camera"]
    still = shown[:1].repeat(FRAMES, 1, 1, 1)
    assert not attributes_right(still, SCENE)["direction"]
    assert recover(torch.zeros(FRAMES, 3, SIZE, SIZE))[0] == [None, None]


def test_a_simpler_scene_has_the_first_object_alone() -> None:
    alone = simpler(SCENE)
    assert alone.caption == "a red circle moving left on a speckled teal background while the camera pans rightward"
    [shown, none], camera = recover(video(alone))
    assert shown is not None
    assert (shown.color, shown.shape, shown.direction) == ("red", "circle", "left")
    assert none is None
    assert camera == SCENE.camera


def test_the_object_in_front_hides_the_other() -> None:
    red = torch.tensor([0.90, 0.12, 0.10])[:, None, None]
    seen = {}
    for order in ORDERS:
        shown = video(Scene((RED, BLUE), order, "plain", "teal", "stands still"))
        seen[order] = int(((shown - red).abs().sum(1) < 0.05).sum())
    assert seen["in front of"] > 1.02 * seen["behind"]


@pytest.mark.parametrize("texture", TEXTURES)
@pytest.mark.parametrize(("camera", "way"), CAMERAS.items())
def test_the_background_moves_against_the_camera(texture: str, camera: str, way: int) -> None:
    shown = video(Scene((RED, BLUE), "behind", texture, "brown", camera))
    rows = shown[:, :, :4]  # no object gets there
    shift = 2 * way
    now, before = slice(max(0, -shift), SIZE - max(0, shift)), slice(max(0, shift), SIZE - max(0, -shift))
    torch.testing.assert_close(rows[1:, ..., now], rows[:-1, ..., before], atol=1e-5, rtol=0)


def test_rendering_is_seeded_in_range_and_cut_from_one_video() -> None:
    whole = render(SCENE, torch.Generator().manual_seed(3))
    assert whole.shape == (FRAMES, 3, SIZE, SIZE)
    assert whole.abs().max() <= 1
    assert torch.equal(whole, render(SCENE, torch.Generator().manual_seed(3)))
    assert not torch.equal(whole, render(SCENE, torch.Generator().manual_seed(4)))
    assert torch.equal(render(SCENE, torch.Generator().manual_seed(3), [2, 9]), whole[[2, 9]])

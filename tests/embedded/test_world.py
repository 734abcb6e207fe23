"""The procedural world: captions, rendering, and a checker that reads the attributes back from pixels."""

from __future__ import annotations

import itertools

import pytest
import torch

from tuner.embedded.checker import CHECKED, attributes_right, recover
from tuner.embedded.codec import SpaceToDepthCodec
from tuner.embedded.world import (
    ATTRIBUTES,
    FRAMES,
    SIZE,
    Scene,
    is_held_out,
    parse_caption,
    render,
    sample_scenes,
    vocabulary,
)

ALL = [Scene(*values) for values in itertools.product(*ATTRIBUTES.values())]


def test_every_caption_parses_back_to_its_scene():
    assert all(parse_caption(scene.caption) == scene for scene in ALL)
    assert len({scene.caption for scene in ALL}) == len(ALL)


@pytest.mark.parametrize(
    "caption", ["", "a red circle", "a pink circle moving slowly left on a plain black background"]
)
def test_other_captions_are_refused_with_an_example(caption):
    with pytest.raises(ValueError, match="is not a caption of the embedded world"):
        parse_caption(caption)


def test_vocabulary_covers_every_caption():
    words = set(vocabulary())
    assert all(set(scene.caption.split()) <= words for scene in ALL)


def test_held_out_captions_are_disjoint_from_training_and_cover_every_attribute():
    generator = torch.Generator().manual_seed(0)
    training = {s.caption for s in sample_scenes(500, generator)}
    held_out = [s for s in ALL if is_held_out(s)]
    assert not training & {s.caption for s in held_out}
    for name, values in ATTRIBUTES.items():
        assert {getattr(s, name) for s in held_out} == set(values)


def test_rendering_is_seeded_and_in_range():
    scene = ALL[0]
    first = render(scene, torch.Generator().manual_seed(3))
    again = render(scene, torch.Generator().manual_seed(3))
    other = render(scene, torch.Generator().manual_seed(4))
    assert first.shape == (FRAMES, 3, SIZE, SIZE)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert float(first.abs().max()) <= 1


def test_a_subset_of_frames_is_cut_from_the_same_video():
    whole = render(ALL[7], torch.Generator().manual_seed(1))
    part = render(ALL[7], torch.Generator().manual_seed(1), times=[2, 9])
    torch.testing.assert_close(part, whole[[2, 9]])


def test_checker_is_right_on_at_least_99_percent_of_rendered_videos():
    generator = torch.Generator().manual_seed(11)
    scenes = sample_scenes(300, generator)
    right = dict.fromkeys(CHECKED, 0)
    for scene in scenes:
        for name, correct in attributes_right((render(scene, generator) + 1) / 2, scene).items():
            right[name] += correct
    assert all(count >= 0.99 * len(scenes) for count in right.values()), right


def test_checker_sees_what_is_wrong():
    scene = Scene("red", "circle", "left", "quickly", "plain", "gray")
    video = (render(scene, torch.Generator().manual_seed(0)) + 1) / 2
    assert attributes_right(video.flip(0), scene) == {"color": True, "shape": True, "direction": False}
    assert recover(torch.full_like(video, 0.42)) == dict.fromkeys(CHECKED)


def test_codec_is_lossless():
    video = torch.rand(1, 3, FRAMES, SIZE, SIZE)
    codec = SpaceToDepthCodec()
    latents = codec.encode(video)
    assert latents.shape == (1, 12, FRAMES, SIZE // 2, SIZE // 2)
    assert torch.equal(codec.decode(latents).sample, video)

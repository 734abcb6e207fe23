"""Training: learns, resumes to the same weights, and hands frames their own positions."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from tuner.embedded import train
from tuner.embedded.cogvideox import GRID, CogVideoX
from tuner.embedded.denoiser import STRONG_NOISE, Denoiser, Stage, noise_levels
from tuner.embedded.flow import FlowDenoiser
from tuner.embedded.hunyuanvideo import HunyuanVideo
from tuner.embedded.mochi import Mochi
from tuner.embedded.models import MODELS
from tuner.embedded.obedience import obedience
from tuner.embedded.sampler import CleanFlowMatchEulerScheduler, clean_scheduler
from tuner.embedded.train import learning_rate, pick_latents
from tuner.embedded.transfer import start_from
from tuner.embedded.worlds import OBJECT, SCENES
from tuner.models import REGISTRY, load_pipeline


def small(name: str) -> Denoiser:
    """The model with a block of every kind."""
    model = MODELS[name]
    if issubclass(model, HunyuanVideo):
        return model(dual=1, single=1)
    return model(blocks=1)  # type: ignore[call-arg]


@pytest.mark.parametrize("name", ["tiny-hunyuanvideo-scenes", "tiny-mochi-scenes"])
def test_what_was_learned_in_one_world_is_taken_to_another(name: str) -> None:
    model = MODELS[name]()
    assert model.begins_as is not None
    before, pipe = copy.deepcopy(model), load_pipeline(model.begins_as)
    start_from(model, pipe)
    for key, parameter in pipe.transformer.named_parameters():
        assert torch.equal(model.transformer.get_parameter(key), parameter)
    own, random, learned = (
        of.text_encoder.get_input_embeddings().weight[of.tokenizer.convert_tokens_to_ids(["triangle", "behind"])]
        for of in (model, before, pipe)
    )
    assert torch.equal(own[0], learned[0])
    assert torch.equal(own[1], random[1])  # a word of the new world


def test_latents_are_ascending_and_whole_videos_whole():
    generator = torch.Generator().manual_seed(0)
    assert pick_latents(12, 12, generator) == list(range(12))
    for _ in range(20):
        clip = pick_latents(4, 12, generator)
        assert clip == sorted(set(clip))
        assert len(clip) == 4


def test_learning_rate_rises_stays_and_falls():
    rates = [learning_rate(step, 1000) for step in range(1000)]
    falls = round(1000 * train.DECAY_FROM)
    assert rates[: train.WARMUP] == sorted(rates[: train.WARMUP])
    assert rates[train.WARMUP : falls] == [train.PEAK_LR] * (falls - train.WARMUP)
    assert rates[falls:] == sorted(rates[falls:], reverse=True)
    assert rates[-1] >= train.FLOOR_LR


def test_the_first_lessons_show_simpler_scenes():
    model = small("tiny-hunyuanvideo-scenes")
    for share, expected in ((0.0, 0), (0.5, 2), (1.0, 4)):
        captions = train.make_batch(model, Stage(1, 1, 4, simple=share), seed=0)[1]
        assert sum(" behind " not in caption and " front " not in caption for caption in captions) == expected


def test_errors_count_more_at_the_objects_and_around_them():
    model, stage = small("tiny-hunyuanvideo-scenes"), Stage(1, 4, 3, focus=5.0)
    clean, _, latents, _, focus = train.make_batch(model, stage, seed=0)
    alike = train.make_batch(model, replace(stage, focus=1.0), seed=0)
    assert alike[-1] is None
    torch.testing.assert_close(alike[0], clean)
    assert focus is not None
    assert focus.shape == (3, 4, 1, *clean.shape[-2:])
    assert float(focus.mean()) == pytest.approx(1)
    light, heavy = focus.unique().tolist()
    assert heavy / light == pytest.approx(5)
    assert 0.1 < float((focus == heavy).float().mean()) < 0.5
    edge = focus[:, :, :, [0, -1]][..., [0, -1]]  # corners, where objects never are
    assert (edge == light).all()
    generator = torch.Generator().manual_seed(1)
    found = model.loss(clean, ["a"] * 3, latents, stage, generator, torch.full_like(focus, 2.0))
    plain = model.loss(clean, ["a"] * 3, latents, stage, torch.Generator().manual_seed(1))
    torch.testing.assert_close(found, 2 * plain, rtol=1e-3, atol=1e-5)


def test_a_share_of_the_noise_is_strong():
    generator = torch.Generator().manual_seed(0)
    for noisy, expected in ((0.0, 0.2), (0.5, 0.6), (1.0, 1.0)):
        levels = noise_levels(20_000, noisy, generator)
        assert levels.min() >= 0
        assert levels.max() < 1
        assert float((levels >= STRONG_NOISE).float().mean()) == pytest.approx(expected, abs=0.02)


def test_a_clip_sees_the_positions_of_its_frames_and_leaves_the_table_as_it_was():
    model = CogVideoX(blocks=1)
    patch = model.transformer.patch_embed
    whole = patch.pos_embedding.clone()
    with model._positions_of([0, 11]):
        tokens = GRID**2
        assert torch.equal(patch.pos_embedding[0, -tokens:], whole[0, -tokens:])
        assert patch.pos_embedding.shape[1] == model.text_tokens + 2 * tokens
    assert torch.equal(patch.pos_embedding, whole)


@torch.no_grad()
@pytest.mark.parametrize("name", MODELS)
def test_what_is_trained_is_what_the_pipeline_calls(name):
    """A generation of two steps calls the transformer with what training would: same text, same positions."""
    torch.manual_seed(0)
    model = small(name).eval()
    for parameter in model.transformer.parameters():  # what starts at zero would hide everything
        parameter.add_(0.05 * torch.randn_like(parameter))
    pipe = model.pipeline()
    pipe.set_progress_bar_config(disable=True)
    generator, seen = torch.Generator().manual_seed(1), []
    scene = model.world.sample(1, generator, False)[0]
    frames, size = model.video()
    hook = model.transformer.register_forward_hook(
        lambda _, args, kwargs, output: seen.append((kwargs, output[0])), with_kwargs=True
    )
    video = pipe(
        scene.caption,
        num_frames=frames,
        height=size,
        width=size,
        num_inference_steps=2,
        guidance_scale=model.guidance,
        max_sequence_length=model.text_tokens,
        generator=torch.Generator().manual_seed(2),
        output_type="pt",
    ).frames[0]
    hook.remove()
    assert video.shape == (frames, 3, size, size)
    kwargs, output = seen[0]
    channels_last = name == "tiny-cogvideox"
    noised, want = (x if channels_last else x.transpose(1, 2) for x in (kwargs["hidden_states"], output))
    latents = list(range(model.world.frames))
    if isinstance(model, CogVideoX):
        found = model(noised, kwargs["timestep"], [scene.caption], latents)
    else:
        assert isinstance(model, FlowDenoiser)
        sigma = kwargs["timestep"] / 1000
        captions = [scene.caption]
        if isinstance(model, Mochi):  # counts the other way, with both branches in one batch
            sigma, captions = 1 - sigma, ["", scene.caption]
        found = model.predict(noised, sigma, captions, latents)
    torch.testing.assert_close(found, want, rtol=1e-4, atol=1e-5)
    clean = model.render([scene], latents, generator)
    assert clean.shape[1:] == noised.shape[1:]
    decoded = pipe.vae.decode(clean.transpose(1, 2), return_dict=False)[0]
    assert decoded.shape == (1, 3, frames, size, size)
    torch.testing.assert_close(pipe.vae.encode(decoded), clean.transpose(1, 2))


@pytest.mark.parametrize("inverted", [False, True])
def test_a_model_that_knows_the_clean_video_ends_there(inverted):
    """Euler's method whichever way it counts; a straight path needs no small steps."""
    clean, noise = torch.randn(2, 1, 4, 2, 2, generator=torch.Generator().manual_seed(0))
    euler = CleanFlowMatchEulerScheduler(invert_sigmas=inverted)
    euler.set_timesteps(5)
    sample = noise
    for step, timestep in enumerate(euler.timesteps):
        left = 1 - euler.sigmas[step] if inverted else euler.sigmas[step]
        torch.testing.assert_close(sample, (1 - left) * clean + left * noise, rtol=1e-3, atol=5e-3)
        sample = euler.step(clean, timestep, sample, return_dict=False)[0]
    torch.testing.assert_close(sample, clean)


def test_unipc_takes_clean_predictions_as_they_are():
    clean, sample = torch.randn(2, 1, 4, 2, 2, generator=torch.Generator().manual_seed(0))
    unipc = clean_scheduler(3.0)
    unipc.set_timesteps(sigmas=np.linspace(1.0, 0.0, 5)[:-1])  # as HunyuanVideo's pipeline does
    for timestep in unipc.timesteps:
        sample = unipc.step(clean, timestep, sample, return_dict=False)[0]
    torch.testing.assert_close(sample, clean)


@torch.no_grad()
@pytest.mark.parametrize("name", MODELS)
def test_a_clip_of_some_latents_sees_their_positions(name):
    """Swapping two latents, and their places with them, swaps what is predicted."""
    torch.manual_seed(0)
    model = small(name).eval()
    for parameter in model.transformer.parameters():
        parameter.add_(0.05 * torch.randn_like(parameter))
    captions = [model.world.sample(1, torch.Generator().manual_seed(0), False)[0].caption]
    noised = torch.randn(1, 2, 12 * model.ratio, 32, 32)

    def predict(noised: torch.Tensor, latents: list[int]) -> torch.Tensor:
        if isinstance(model, CogVideoX):
            return model(noised, torch.tensor([500]), captions, latents)
        assert isinstance(model, FlowDenoiser)
        return model.predict(noised, torch.tensor([0.5]), captions, latents)

    found = predict(noised, [2, 9])
    torch.testing.assert_close(predict(noised.flip(1), [9, 2]).flip(1), found, rtol=1e-3, atol=1e-4)
    assert not torch.allclose(predict(noised, [0, 1]), found, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_a_clip_is_a_part_of_the_video(name):
    """Alone among its latents, a clip is rendered as in the whole video."""
    model = small(name)
    scene = model.world.sample(1, torch.Generator().manual_seed(0), False)
    whole, clip = (
        model.render(scene, latents, torch.Generator().manual_seed(3))
        for latents in (list(range(model.world.frames)), [0, 3, model.world.frames - 1])
    )
    torch.testing.assert_close(clip, whole[:, [0, 3, -1]])


@pytest.mark.parametrize("name", MODELS)
def test_a_few_steps_on_one_batch_teach_something(name):
    torch.manual_seed(0)
    model = small(name)
    stage = Stage(1, 2, 2)
    clean, captions, latents, *_ = train.make_batch(model, stage, 0)
    optimizers, losses = train.build_optimizers(model), []
    for _ in range(12):
        loss = model.loss(clean, captions, latents, stage, torch.Generator().manual_seed(7))
        losses.append(loss.item())
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
    assert losses[-1] < 0.9 * losses[0]


@torch.no_grad()
def test_a_model_that_looks_at_no_caption_is_as_wrong_with_another_one():
    torch.manual_seed(0)
    model = small("tiny-cogvideox")  # predicts nothing yet, whatever it is told
    assert obedience(model, 1, count=2) == dict.fromkeys(model.world.bars, 1.0)


def test_a_model_that_goes_by_its_caption_is_more_wrong_with_another_one():
    entry = REGISTRY["tiny-cogvideox"]
    model = CogVideoX()
    pipe = load_pipeline(entry.name)
    model.transformer, model.text_encoder = pipe.transformer, pipe.text_encoder
    found = obedience(model, 4, count=3)
    assert set(found) == {"color", "direction", "shape"}
    assert min(found.values()) > 1.2


@pytest.mark.parametrize("world", [OBJECT, SCENES], ids=["object", "scenes"])
def test_one_attribute_changes_and_the_caption_stays_one_of_the_worlds(world):
    for scene in world.sample(20, torch.Generator().manual_seed(0), False):
        for attribute in world.bars:
            other = world.changed(scene, attribute)
            assert world.parse(other.caption) == other
            differ = [one != two for one, two in zip(scene.caption.split(), other.caption.split(), strict=False)]
            assert sum(differ) in (1, 2)  # a camera's word comes in two


def test_weights_are_limited_and_the_limit_is_what_a_stage_says():
    model = small("tiny-wan")
    level = torch.tensor([0.01, 0.3, 0.999])
    assert model.weights(level, Stage(1, 1, 1)).tolist() == [1.0, 1.0, 1.0]
    first, middle, last = model.weights(level, Stage(1, 1, 1, sharp=10)).tolist()
    assert (first, last) == (10.0, pytest.approx(1.0, abs=0.01))
    assert middle == pytest.approx((1.6 / 0.9) ** 2)


def test_a_resumed_run_ends_with_the_same_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(train, "CHECKPOINT_EVERY", 2)
    monkeypatch.setattr(CogVideoX, "stages", (Stage(4, 1, 1),))

    def run(output, resume=False):
        torch.manual_seed(0)
        return torch.load(train.train(CogVideoX(blocks=1), output, resume, seed=0), weights_only=True)

    straight = run(tmp_path / "a")

    class KilledError(Exception):
        pass

    def die_after_first_checkpoint(*args, **kwargs):
        if (tmp_path / "b" / "checkpoint.pt").exists():
            raise KilledError
        return original(*args, **kwargs)

    original = CogVideoX.loss
    monkeypatch.setattr(CogVideoX, "loss", die_after_first_checkpoint)
    with pytest.raises(KilledError):
        run(tmp_path / "b")
    monkeypatch.setattr(CogVideoX, "loss", original)
    resumed = run(tmp_path / "b", resume=True)
    assert resumed["step"] == straight["step"] == 4
    for name, weight in straight["average"].items():
        assert torch.allclose(weight, resumed["average"][name], atol=1e-6), name

"""Training: learns, resumes to the same weights, and hands frames their own positions."""

from __future__ import annotations

import pytest
import torch

from tuner.embedded import build, train
from tuner.embedded.train import Denoiser, Stage, learning_rate, pick_frames, sample_timesteps


def test_frames_are_ascending_and_whole_videos_whole():
    generator = torch.Generator().manual_seed(0)
    assert pick_frames(12, generator) == list(range(12))
    for _ in range(20):
        clip = pick_frames(4, generator)
        assert clip == sorted(set(clip))
        assert len(clip) == 4


def test_learning_rate_rises_stays_and_falls():
    rates = [learning_rate(step, 1000) for step in range(1000)]
    falls = round(1000 * train.DECAY_FROM)
    assert rates[: train.WARMUP] == sorted(rates[: train.WARMUP])
    assert rates[train.WARMUP : falls] == [train.PEAK_LR] * (falls - train.WARMUP)
    assert rates[falls:] == sorted(rates[falls:], reverse=True)
    assert rates[-1] >= train.FLOOR_LR


def test_a_share_of_the_timesteps_is_strong_noise():
    generator = torch.Generator().manual_seed(0)
    for noisy, expected in ((0.0, 0.2), (0.5, 0.6), (1.0, 1.0)):
        timesteps = sample_timesteps(20_000, 1000, noisy, generator)
        assert timesteps.min() >= 0
        assert timesteps.max() < 1000
        assert float((timesteps >= train.STRONG_NOISE).float().mean()) == pytest.approx(expected, abs=0.02)


def test_a_clip_sees_the_positions_of_its_frames_and_leaves_the_table_as_it_was():
    model = Denoiser()
    patch = model.transformer.patch_embed
    whole = patch.pos_embedding.clone()
    with model._positions_of([0, 11]):
        tokens = build.GRID**2
        assert torch.equal(patch.pos_embedding[0, -tokens:], whole[0, -tokens:])
        assert patch.pos_embedding.shape[1] == build.TEXT_TOKENS + 2 * tokens
    assert torch.equal(patch.pos_embedding, whole)


def test_a_resumed_run_ends_with_the_same_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "BLOCKS", 1)
    monkeypatch.setattr(train, "CHECKPOINT_EVERY", 2)
    monkeypatch.setattr(train, "STAGES", (Stage(4, 1, 1),))
    straight = torch.load(train.train(tmp_path / "a", resume=False, seed=0, device="cpu"), weights_only=True)

    class KilledError(Exception):
        pass

    def die_after_first_checkpoint(*args, **kwargs):
        if (tmp_path / "b" / "checkpoint.pt").exists():
            raise KilledError
        return original(*args, **kwargs)

    original = train.batch_loss
    monkeypatch.setattr(train, "batch_loss", die_after_first_checkpoint)
    with pytest.raises(KilledError):
        train.train(tmp_path / "b", resume=False, seed=0, device="cpu")
    monkeypatch.setattr(train, "batch_loss", original)
    resumed = torch.load(train.train(tmp_path / "b", resume=True, seed=0, device="cpu"), weights_only=True)
    assert resumed["step"] == straight["step"] == 4
    for name, weight in straight["average"].items():
        assert torch.allclose(weight, resumed["average"][name], atol=1e-6), name

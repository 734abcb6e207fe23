"""Trains `tiny-cogvideox` on videos rendered on the fly: seeded, resumable, on CPU or GPU.

    python -m tuner.embedded.train --output runs/tiny-cogvideox --resume

Training starts on many single frames, half of them under strong noise, which teach at a fraction of the cost what a
scene looks like and where its caption puts the object at which time; goes on with clips of four frames, and finishes on
whole videos. The model predicts the clean video (x-prediction) under a clipped SNR weight. `--compile` saves about a
sixth of the time where torch finds a C++ compiler.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from tuner.embedded import build
from tuner.embedded.world import FRAMES, Scene, render, sample_scenes


@dataclass(frozen=True)
class Stage:
    """`steps` optimiser steps on batches of `batch` clips of `frames` frames; a share of them under strong noise."""

    steps: int
    frames: int
    batch: int
    noisy: float = 0.5


# Where the object comes to lie is decided under strong noise and nowhere else: single frames there are cheap lessons.
STAGES = (
    Stage(2400, 1, 14),
    Stage(2400, 4, 3),
    Stage(3600, 12, 1, noisy=0.4),
    Stage(1200, 1, 14),
    Stage(900, 12, 1, noisy=0.4),
)
STRONG_NOISE = 800  # of 1000 timesteps
PEAK_LR, FLOOR_LR, WARMUP, DECAY_FROM = 1.5e-3, 2e-5, 100, 0.65
MAX_WEIGHT = 10.0
EMA_DECAY = 0.998
CHECKPOINT_EVERY = 200


class Denoiser(nn.Module):
    """Text encoder and transformer as one module, so that one optimiser and one average cover both."""

    cos: torch.Tensor
    sin: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.tokenizer = build.build_tokenizer()
        self.text_encoder = build.build_text_encoder(len(self.tokenizer))
        self.transformer = build.build_transformer()
        cos, sin = build.rotary_embedding()
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def forward(
        self, noisy: torch.Tensor, timestep: torch.Tensor, captions: list[str], frames: list[int]
    ) -> torch.Tensor:
        """Predict the clean latents of (batch, frames, 12, h, w)."""
        ids = self.tokenizer(
            captions,
            padding="max_length",
            max_length=build.TEXT_TOKENS,
            truncation=True,
            return_tensors="pt",
        ).input_ids
        text = self.text_encoder(ids.to(noisy.device))[0]
        rotary = (self.cos[frames].flatten(0, 1), self.sin[frames].flatten(0, 1))
        with self._positions_of(frames):
            return self.transformer(
                hidden_states=noisy,
                encoder_hidden_states=text,
                timestep=timestep,
                image_rotary_emb=rotary,
                return_dict=False,
            )[0]

    @contextmanager
    def _positions_of(self, frames: list[int]) -> Iterator[None]:
        """Let the patch embedding see the positions of `frames` instead of those of the first len(frames)."""
        patch = self.transformer.patch_embed
        whole = patch.pos_embedding
        text, video = whole[:, : build.TEXT_TOKENS], whole[:, build.TEXT_TOKENS :]
        picked = video.view(FRAMES, -1, video.shape[-1])[frames].flatten(0, 1)[None]
        patch.pos_embedding, patch.sample_frames = torch.cat([text, picked], 1), len(frames)
        try:
            yield
        finally:
            patch.pos_embedding, patch.sample_frames = whole, FRAMES


def pick_frames(count: int, generator: torch.Generator) -> list[int]:
    """Which frames of the video a clip of `count` frames holds: all, or a random ascending subset."""
    if count == FRAMES:
        return list(range(FRAMES))
    return sorted(torch.randperm(FRAMES, generator=generator)[:count].tolist())


def sample_timesteps(count: int, total: int, noisy: float, generator: torch.Generator) -> torch.Tensor:
    """Timesteps for a batch: a share from the noisiest fifth, the others from anywhere."""
    anywhere = torch.randint(0, total, (count,), generator=generator)
    strong = torch.randint(STRONG_NOISE, total, (count,), generator=generator)
    return torch.where(torch.rand(count, generator=generator) < noisy, strong, anywhere)


def learning_rate(step: int, total: int) -> float:
    """Linear warm-up, a constant peak, and a linear decay to the floor after `DECAY_FROM` of the steps."""
    left = (total - step) / (total * (1 - DECAY_FROM))
    return max(FLOOR_LR, PEAK_LR * min(1.0, (step + 1) / WARMUP, left))


def build_optimizers(model: Denoiser) -> list[torch.optim.Optimizer]:
    """Muon for the blocks' matrices, AdamW for everything else."""
    matrices = [
        p
        for name, p in model.transformer.transformer_blocks.named_parameters()
        if p.ndim == 2 and ("attn1" in name or "ff" in name)
    ]
    chosen = {id(p) for p in matrices}
    rest = [p for p in model.parameters() if id(p) not in chosen]
    return [
        torch.optim.Muon(matrices, lr=PEAK_LR, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, lr=PEAK_LR, betas=(0.9, 0.98), weight_decay=0.01),
    ]


def batch_loss(
    model: Denoiser, stage: Stage, scenes: list[Scene], alphas: torch.Tensor, generator: torch.Generator
) -> torch.Tensor:
    """Weighted x-prediction error on one rendered batch."""
    frames = pick_frames(stage.frames, generator)
    video = torch.stack([render(scene, generator, frames) for scene in scenes])
    clean = nn.functional.pixel_unshuffle(video, 2)
    timestep = sample_timesteps(len(scenes), len(alphas), stage.noisy, generator)
    noise = torch.randn(clean.shape, generator=generator)
    alpha = alphas[timestep].view(-1, 1, 1, 1, 1)
    noisy = alpha.sqrt() * clean + (1 - alpha).sqrt() * noise
    weight = (1 / (1 - alpha)).clamp(max=MAX_WEIGHT)
    device = model.cos.device
    with torch.autocast(device.type, torch.bfloat16):
        predicted = model(noisy.to(device), timestep.to(device), [s.caption for s in scenes], frames)
    return (weight.to(device) * (predicted.float() - clean.to(device)).square()).mean()


def train(output: Path, resume: bool, seed: int, device: str, compiled: bool = False) -> Path:
    """Run every stage; returns the path of the final checkpoint (weights are the moving average)."""
    torch.manual_seed(seed)
    output.mkdir(parents=True, exist_ok=True)
    path = output / "checkpoint.pt"
    model = Denoiser().to(device)
    average = copy.deepcopy(model).requires_grad_(False)
    optimizers = build_optimizers(model)
    if compiled:
        for block in model.transformer.transformer_blocks:
            block.compile(dynamic=False)
    start = 0
    if resume and path.exists():
        state = torch.load(path, map_location=device, weights_only=True)
        model.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        start = state["step"]
    alphas = build.build_scheduler().alphas_cumprod.float()
    total = sum(stage.steps for stage in STAGES)
    plan = [stage for stage in STAGES for _ in range(stage.steps)]
    smooth, began = None, time.perf_counter()
    for step in range(start, total):
        stage = plan[step]
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)  # per step: a resumed run sees the same data
        loss = batch_loss(model, stage, sample_scenes(stage.batch, generator), alphas, generator)
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, total)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
        decay = min(EMA_DECAY, (1 + step) / (10 + step))
        with torch.no_grad():
            torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - decay)
        smooth = loss.item() if smooth is None else 0.98 * smooth + 0.02 * loss.item()
        done = step + 1
        if done % 50 == 0:
            elapsed = time.perf_counter() - began
            left = elapsed / (done - start) * (total - done)
            print(
                f"step {done}/{total}  {stage.frames} frames x {stage.batch}  loss {smooth:.4f}  "
                f"{elapsed / 60:.1f} min, {left / 60:.1f} min left",
                flush=True,
            )
        if done % CHECKPOINT_EVERY == 0 or done == total:
            partial = path.with_suffix(".partial")
            torch.save(
                {
                    "model": model.state_dict(),
                    "average": average.state_dict(),
                    "optimizers": [optimizer.state_dict() for optimizer in optimizers],
                    "step": done,
                },
                partial,
            )
            partial.replace(path)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("runs/tiny-cogvideox"))
    parser.add_argument("--resume", action="store_true", help="continue from the checkpoint in --output")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--compile", action="store_true", help="compile the transformer's blocks")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()
    path = train(arguments.output, arguments.resume, arguments.seed, arguments.device, arguments.compile)
    print(f"weights in {path}; `python -m tuner.embedded.publish` checks them and writes the packaged model")


if __name__ == "__main__":
    main()

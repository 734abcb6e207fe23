"""Trains an embedded model on videos rendered on the fly: seeded, resumable, on CPU or GPU.

    python -m tuner.embedded.train tiny-cogvideox --resume

Some models begin as one that was trained on a simpler world, the others with random weights. Training starts on many
single frames, half of them under strong noise, which teach at a fraction of the cost what a scene looks like and where
its caption puts the object at which time; goes on with clips of four frames, and finishes on whole videos. Every now
and then it says how much larger errors are when a caption names another colour, shape or direction: where that stays at
1, the model does not learn to go by it. `--compile` saves a sixth of the time where torch finds a C++ compiler;
`--batch-factor 8` gives a GPU, to which these models are small, enough to do.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from tuner.embedded.denoiser import Denoiser, Stage
from tuner.embedded.models import MODELS
from tuner.embedded.muon import Muon
from tuner.embedded.obedience import obedience
from tuner.embedded.transfer import start_from
from tuner.models import load_pipeline

PEAK_LR, FLOOR_LR, WARMUP, DECAY_FROM = 1.5e-3, 2e-5, 100, 0.65
EMA_DECAY = 0.998
CHECKPOINT_EVERY = 200
OBEDIENCE_EVERY = 400
Batch = tuple[torch.Tensor, list[str], list[int], torch.Generator, torch.Tensor | None]


def pick_latents(count: int, total: int, generator: torch.Generator) -> list[int]:
    """Which latents of the video a clip of `count` holds: all, or a random ascending subset."""
    if count == total:
        return list(range(total))
    return sorted(torch.randperm(total, generator=generator)[:count].tolist())


def learning_rate(step: int, total: int) -> float:
    """Linear warm-up, a constant peak, and a linear decay to the floor after `DECAY_FROM` of the steps."""
    left = (total - step) / (total * (1 - DECAY_FROM))
    return max(FLOOR_LR, PEAK_LR * min(1.0, (step + 1) / WARMUP, left))


def build_optimizers(model: Denoiser) -> list[torch.optim.Optimizer]:
    """Muon for the blocks' matrices, AdamW for everything else."""
    matrices = model.matrices()
    chosen = {id(p) for p in matrices}
    rest = [p for p in model.parameters() if id(p) not in chosen]
    return [
        Muon(matrices, lr=PEAK_LR, weight_decay=0.01),
        torch.optim.AdamW(rest, lr=PEAK_LR, betas=(0.9, 0.98), weight_decay=0.01),
    ]


def make_batch(model: Denoiser, stage: Stage, seed: int) -> Batch:
    """Render one batch; a seed of its own for every step lets a resumed run see the same data."""
    generator = torch.Generator().manual_seed(seed)
    simple, world = round(stage.simple * stage.batch), model.world
    scenes = [
        world.simpler(scene) if i < simple else scene
        for i, scene in enumerate(world.sample(stage.batch, generator, False))
    ]
    latents = pick_latents(stage.latents, world.frames, generator)
    state = generator.get_state()
    clean = model.render(scenes, latents, generator)
    focus = None if stage.focus == 1 else model.focus(clean, scenes, latents, stage.focus, state)
    return clean, [scene.caption for scene in scenes], latents, generator, focus


def batches(model: Denoiser, plan: list[Stage], start: int, seed: int) -> Iterator[Batch]:
    """The batches from a step on, each rendered, by a single thread, while the one before it is trained on.

    Rendering threads would spin while they wait, on the cores that training needs: a step took 1.45 s with two of them,
    and takes 0.86 s with one (`tiny-mochi-scenes`, single frames, AMD EPYC, 2 cores).
    """
    with ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        waiting = None
        for step in range(start, len(plan) + 1):
            after = None
            if step < len(plan):
                after = pool.submit(make_batch, model, plan[step], seed * 1_000_003 + step)
            if waiting is not None:
                yield waiting.result()
            waiting = after


def train(
    model: Denoiser, output: Path, resume: bool, seed: int, compiled: bool = False, batch_factor: int = 1
) -> Path:
    """Run every stage.

    Args:
        model: untrained, where it is to be trained.
        output: folder of the checkpoint.
        resume: go on from the checkpoint there.
        seed: of everything that is drawn.
        compiled: compile the transformer's blocks.
        batch_factor: how many times as large all batches are.

    Returns:
        The path of the final checkpoint, whose weights to use are the moving average.
    """
    output.mkdir(parents=True, exist_ok=True)
    path = output / "checkpoint.pt"
    average = copy.deepcopy(model).requires_grad_(False)
    optimizers = build_optimizers(model)
    if compiled:
        for block in model.blocks():
            block.compile(dynamic=False)
    start = 0
    if resume and path.exists():
        state = torch.load(path, map_location=model.device, weights_only=True)
        model.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        start = state["step"]
    stages = [replace(stage, batch=stage.batch * batch_factor) for stage in model.stages]
    plan = [stage for stage in stages for _ in range(stage.steps)]
    total, smooth, began = len(plan), None, time.perf_counter()
    for step, batch in enumerate(batches(model, plan, start, seed), start=start):
        clean, captions, latents, generator, focus = batch
        loss = model.loss(clean, captions, latents, plan[step], generator, focus)
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
        smooth = loss.detach() if smooth is None else 0.98 * smooth + 0.02 * loss.detach()
        done = step + 1
        if done % 50 == 0:
            elapsed = time.perf_counter() - began
            left = elapsed / (done - start) * (total - done)
            print(
                f"step {done}/{total}  {plan[step].latents} latents x {plan[step].batch}  loss {float(smooth):.4f}  "
                f"{elapsed / 60:.1f} min, {left / 60:.1f} min left",
                flush=True,
            )
        if done % OBEDIENCE_EVERY == 0:
            found = obedience(average, plan[step].latents)
            print(
                "errors with another " + ", ".join(f"{name} x {value:.2f}" for name, value in found.items()), flush=True
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
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("--output", type=Path, help="default: runs/MODEL")
    parser.add_argument("--resume", action="store_true", help="continue from the checkpoint in --output")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--compile", action="store_true", help="compile the transformer's blocks")
    parser.add_argument("--batch-factor", type=int, default=1, help="how many times as large all batches are")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()
    torch.manual_seed(arguments.seed)
    model = MODELS[arguments.model]()
    if model.begins_as is not None:
        start_from(model, load_pipeline(model.begins_as))
    model.to(arguments.device)
    output = arguments.output or Path("runs") / arguments.model
    path = train(model, output, arguments.resume, arguments.seed, arguments.compile, arguments.batch_factor)
    print(f"weights in {path}; `python -m tuner.embedded.publish {arguments.model}` checks and packages them")


if __name__ == "__main__":
    main()

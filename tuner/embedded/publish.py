"""Checks a trained embedded model on held-out captions and writes the packaged pipeline with its card.

    python -m tuner.embedded.publish tiny-cogvideox

Weights are stored in half precision. Every figure on the card is measured on the model as packaged.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import statistics
import time
from collections import Counter
from pathlib import Path

import torch
from rich.progress import track

from tuner.embedded.denoiser import Denoiser
from tuner.embedded.models import MODELS
from tuner.models import REGISTRY, PackagedWeights, load_pipeline
from tuner.report.video import write_contact_sheet
from tuner.run.runner import Runner

CAPTIONS = 48
SEED = 50_000  # far from every seed used in training
MAX_NOISE = 2.0  # grey levels of 255; less is hardly seen
TILE = 8


def write_pipeline(model: Denoiser, checkpoint: Path, folder: Path) -> None:
    """Save the checkpoint's averaged weights as a half-precision pipeline folder."""
    model.load_state_dict(torch.load(checkpoint, map_location="cpu", weights_only=True)["average"])
    pipe = model.pipeline()
    if folder.exists():
        shutil.rmtree(folder)
    pipe.to(torch.float16).save_pretrained(folder, safe_serialization=True)
    for name in ("model_index.json", "tokenizer/tokenizer_config.json"):  # the name that every transformers release has
        file = folder / name
        file.write_text(file.read_text().replace("TokenizersBackend", "PreTrainedTokenizerFast"))


def evaluate(name: str, count: int = CAPTIONS) -> tuple[dict[str, float], float, list[tuple[str, torch.Tensor]]]:
    """Attribute accuracy on held-out captions with unseen seeds, median seconds a generation, and the videos."""
    entry = REGISTRY[name]
    runner = Runner(load_pipeline(name), entry)
    right: Counter[str] = Counter()
    seconds: list[float] = []
    videos: list[tuple[str, torch.Tensor]] = []
    for i, prompt in enumerate(track(entry.held_out_prompts(count), description="generating")):
        began = time.perf_counter()
        video = runner.generate(prompt, SEED + i).video
        seconds.append(time.perf_counter() - began)
        videos.append((prompt, video))
        assert entry.attributes is not None
        right.update(entry.attributes(video, prompt))
    return {attribute: right[attribute] / count for attribute in right}, statistics.median(seconds), videos


def noise_level(video: torch.Tensor) -> float:
    """Standard deviation of pixel noise in grey levels of 255 (Immerkaer 1996).

    It is taken from the quieter quarter of the tiles, so that edges drop out; a checkered background counts as noise.

    Args:
        video: (frames, 3, height, width) in [0, 1].
    """
    mask = torch.tensor([[1.0, -2.0, 1.0], [-2.0, 4.0, -2.0], [1.0, -2.0, 1.0]]).view(1, 1, 3, 3)
    response = torch.nn.functional.conv2d(video.flatten(0, 1)[:, None], mask, padding=1).abs()
    tiles = torch.nn.functional.avg_pool2d(response, TILE)
    return float(tiles.flatten().quantile(0.25)) * math.sqrt(math.pi / 2) / 6 * 255


def card(
    model: type[Denoiser], accuracy: dict[str, float], noise: float, seconds: float, megabytes: float, trained: str
) -> str:
    """The model card, in Markdown."""
    world, (frames, size) = model.world, model.video()
    rows = "\n".join(f"| {name} | {accuracy[name]:.1%} | {bar:.0%} |" for name, bar in world.bars.items())
    stages = ", ".join(f"{s.steps} steps (batch {s.batch}, latents {s.latents})" for s in model.stages)
    return f"""# {model.name}

A small trained text-to-video diffusion transformer: {model.about}. It makes {frames} frames of
{size}x{size} of the procedural world in `{world.module}`.

Captions read `{world.form}`.

Trained by `python -m tuner.embedded.train {model.name}` ({stages}) {trained}; {megabytes:.1f} MB on disk in half
precision.

Measured by `python -m tuner.embedded.publish {model.name}` on {CAPTIONS} held-out captions with unseen seeds, judged
from pixels; one generation took {seconds:.1f} s (median, {torch.get_num_threads()} CPU threads, float32):

| attribute | right | bar |
|---|---|---|
{rows}

Pixel noise (Immerkaer's estimate, median over the videos without checkered or speckled background): {noise:.2f} grey
levels of 255, at most {MAX_NOISE:g} allowed.

![first, middle and last frames of held-out captions](contact_sheet.png)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("--checkpoint", type=Path, help="default: runs/MODEL/checkpoint.pt")
    parser.add_argument("--trained", default="on 2 CPU cores", help="where and with which options; for the card")
    arguments = parser.parse_args()
    name, model = arguments.model, MODELS[arguments.model]
    weights = REGISTRY[name].weights
    assert isinstance(weights, PackagedWeights)
    folder = weights.folder
    write_pipeline(model(), arguments.checkpoint or Path("runs") / name / "checkpoint.pt", folder)
    accuracy, seconds, videos = evaluate(name)
    write_contact_sheet(videos[:16], folder / "contact_sheet.png")
    megabytes = sum(f.stat().st_size for f in folder.rglob("*.safetensors")) / 1e6
    plain = [video for prompt, video in videos if "checkered" not in prompt and "speckled" not in prompt]
    noise = statistics.median(noise_level(video) for video in plain)
    (folder / "README.md").write_text(card(model, accuracy, noise, seconds, megabytes, arguments.trained))
    print(json.dumps({"accuracy": accuracy, "noise": noise, "seconds": seconds, "megabytes": megabytes}))
    missed = [attribute for attribute, bar in model.world.bars.items() if accuracy[attribute] < bar]
    if noise > MAX_NOISE:
        missed.append("noise")
    if missed:
        raise SystemExit(f"The model misses the bar on {', '.join(missed)}; train longer.")


if __name__ == "__main__":
    main()

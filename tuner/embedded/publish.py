"""Checks a trained embedded model on held-out captions and writes the packaged pipeline with its card.

    python -m tuner.embedded.publish tiny-cogvideox
    python -m tuner.embedded.publish tiny-wan --packaged

Weights are stored in half precision. Every figure on the card is measured on the model as packaged; the second
command measures the weights that are there again, where the workload or what is judged has changed.
"""

from __future__ import annotations

import argparse
import math
import shutil
import statistics
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.progress import Progress

from tuner.embedded.denoiser import Denoiser
from tuner.embedded.models import MODELS
from tuner.models import REGISTRY, PackagedWeights, load_pipeline
from tuner.report.video import write_contact_sheet
from tuner.run.runner import Runner

CAPTIONS = 48
SEED = 50_000  # far from every seed used in training
MAX_NOISE = 2.0  # grey levels of 255; less is hardly seen
TILE = 8
ROUGH = ("checkered", "speckled")  # textures that count as noise
PLAIN = "on a plain"
EVEN, EVEN_BAR = 4.0, 0.95  # grey levels of unevenness up to which plain backgrounds are plain, and how many must be


def write_pipeline(model: Denoiser, checkpoint: Path, folder: Path) -> None:
    """Save the checkpoint's averaged weights as a half-precision pipeline folder."""
    model.load_state_dict(torch.load(checkpoint, map_location="cpu", weights_only=True)["average"])
    pipe = model.pipeline()
    if folder.exists():
        shutil.rmtree(folder)
    pipe.to(torch.float16).save_pretrained(folder, safe_serialization=True)
    for file in (folder / "model_index.json", *folder.glob("tokenizer*/tokenizer_config.json")):
        # the name that every transformers release has
        file.write_text(file.read_text().replace("TokenizersBackend", "PreTrainedTokenizerFast"))


@dataclass(frozen=True)
class Evaluation:
    """What a model showed in so many steps.

    Attributes:
        steps: of each generation.
        accuracy: attribute to the share of videos that show it right.
        noise: median of `noise_level` over videos whose background has no texture that counts as noise.
        uneven: unevenness of the videos whose background is plain; empty where the world cannot tell.
        seconds: median of a generation.
        videos: with their captions.
    """

    steps: int
    accuracy: dict[str, float]
    noise: float
    seconds: float
    videos: list[tuple[str, torch.Tensor]]
    uneven: tuple[float, ...] = ()

    @property
    def plain(self) -> int:
        """How many plain backgrounds are plain."""
        return sum(each <= EVEN for each in self.uneven)

    def missed(self, bars: Mapping[str, float]) -> list[str]:
        """What falls short."""
        found = [name for name, bar in bars.items() if self.accuracy[name] < bar]
        if self.noise > MAX_NOISE:
            found.append("noise")
        if self.plain < EVEN_BAR * len(self.uneven):
            found.append("plain backgrounds")
        return [f"{what} in {self.steps} steps" for what in found]


def evaluate(model: type[Denoiser], steps: int, count: int = CAPTIONS) -> Evaluation:
    """Generate held-out captions with unseen seeds, and look at the videos."""
    name, judge = model.name, model.world.unevenness
    entry = REGISTRY[name].with_workload(steps=steps)
    runner = Runner(load_pipeline(name), entry)
    right: Counter[str] = Counter()
    seconds: list[float] = []
    videos: list[tuple[str, torch.Tensor]] = []
    with Progress() as progress:
        task = progress.add_task(f"generating in {steps} steps", total=count)
        for i, prompt in enumerate(entry.held_out_prompts(count)):
            began = time.perf_counter()
            video = runner.generate(prompt, SEED + i).video
            seconds.append(time.perf_counter() - began)
            videos.append((prompt, video))
            assert entry.attributes is not None
            right.update(entry.attributes(video, prompt))
            so_far = ", ".join(f"{attribute} {right[attribute]}" for attribute in right)
            progress.update(task, advance=1, description=f"in {steps} steps, right of {i + 1}: {so_far}")
    smooth = [video for prompt, video in videos if not any(texture in prompt for texture in ROUGH)]
    accuracy = {attribute: right[attribute] / count for attribute in right}
    noise = statistics.median(noise_level(video) for video in smooth)
    uneven = [] if judge is None else [judge(video) for prompt, video in videos if PLAIN in prompt]
    return Evaluation(steps, accuracy, noise, statistics.median(seconds), videos, tuple(uneven))


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


def card(model: type[Denoiser], found: Sequence[Evaluation], megabytes: float, trained: str) -> str:
    """The model card, in Markdown."""
    world, (frames, size) = model.world, model.video()
    titles = " | ".join(f"right in {each.steps} steps" for each in found)
    rows = "\n".join(
        f"| {name} | {' | '.join(f'{each.accuracy[name]:.1%}' for each in found)} | {bar:.0%} |"
        for name, bar in world.bars.items()
    )
    even = ""
    if found[0].uneven:
        shares = " | ".join(f"{each.plain} of {len(each.uneven)}" for each in found)
        rows += f"\n| plain background, where asked for | {shares} | {EVEN_BAR:.0%} |"
        worst = " and ".join(f"{max(each.uneven):.1f}" for each in found)
        even = (
            f"\nPlain backgrounds are plain where rows vary by at most {EVEN:g} grey levels of 255 (from the median "
            f"absolute\ndeviation, which passes over the object); the worst one varies by {worst}.\n"
        )
    times = " and ".join(f"{each.seconds:.1f} s in {each.steps} steps" for each in found)
    noises = " and ".join(f"{each.noise:.2f}" for each in found)
    origin = "" if model.begins_as is None else f", beginning as {model.begins_as},"
    stages = ", ".join(f"{s.steps} steps (batch {s.batch}, latents {s.latents})" for s in model.stages)
    return f"""# {model.name}

A small trained text-to-video diffusion transformer: {model.about}. It makes {frames} frames of
{size}x{size} of the procedural world in `{world.module}`.

Captions read `{world.form}`.

Trained by `python -m tuner.embedded.train {model.name}`{origin} ({stages})
{trained}; {megabytes:.1f} MB on disk in half precision.

Measured by `python -m tuner.embedded.publish {model.name}` on {CAPTIONS} held-out captions with unseen seeds, judged
from pixels; one generation took {times} (median, {torch.get_num_threads()} CPU threads, float32):

| attribute | {titles} | bar |
|---|{"---|" * len(found)}---|
{rows}
{even}
Pixel noise (Immerkaer's estimate, median over the videos without {" or ".join(ROUGH)} background): {noises} grey
levels of 255, at most {MAX_NOISE:g} allowed.

![first, middle and last frames of held-out captions](contact_sheet.png)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("--checkpoint", type=Path, help="default: runs/MODEL/checkpoint.pt")
    parser.add_argument("--packaged", action="store_true", help="measure the packaged weights again")
    parser.add_argument("--trained", default="on 2 CPU cores", help="where and with which options; for the card")
    arguments = parser.parse_args()
    if arguments.packaged and arguments.checkpoint is not None:
        parser.error("--packaged measures what is packaged; leave --checkpoint out")
    name, model = arguments.model, MODELS[arguments.model]
    weights = REGISTRY[name].weights
    assert isinstance(weights, PackagedWeights)
    folder = weights.folder
    if not arguments.packaged:
        write_pipeline(model(), arguments.checkpoint or Path("runs") / name / "checkpoint.pt", folder)
    found = [evaluate(model, steps) for steps in (model.steps, model.few_steps) if steps is not None]
    write_contact_sheet(found[0].videos[:16], folder / "contact_sheet.png")
    megabytes = sum(f.stat().st_size for f in folder.rglob("*.safetensors")) / 1e6
    (folder / "README.md").write_text(card(model, found, megabytes, arguments.trained))
    missed = [what for each in found for what in each.missed(model.world.bars)]
    if missed:
        raise SystemExit(f"The model misses the bar on {', '.join(missed)}; train longer. See {folder / 'README.md'}.")


if __name__ == "__main__":
    main()

"""Makes the gallery: the embedded models, plain and with every certified schedule, on prompts nothing was chosen by.

python docs/gallery.py            # minutes; writes docs/gallery.md and docs/gallery/*.mp4
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import torch

from asymrnr.artifact import Artifact
from asymrnr.find import available_profiles
from asymrnr.shipped import load_shipped
from tuner.embedded.entries import ENTRIES
from tuner.models import ModelEntry, load_pipeline
from tuner.quality.metrics import psnr
from tuner.report.film import DIFFERENCE_GAIN, Comparison, film
from tuner.run.runner import Runner

DOCS = Path(__file__).parent
FOLDER = "gallery"
UNSEEN, SHOWN = 64, 2  # prompts from here on are in no certificate and no benchmark
SEED = 7_000_000


def certified(model: str) -> Iterator[tuple[str, Artifact]]:
    """Every certified schedule of a model, by profile, slowest first."""
    for profile in available_profiles().get(model, []):
        artifact = load_shipped(model, profile)
        for point in artifact.points():
            if point.proven:
                yield profile, artifact.at(point.target)


def films(entry: ModelEntry) -> Iterator[str]:
    """Write the films of one model.

    Yields:
        Lines of the page.
    """
    pipe, plain, before = load_pipeline(entry.name), dict[tuple[int, int], torch.Tensor](), None
    prompts = entry.held_out_prompts(UNSEEN + SHOWN)[UNSEEN:]
    yield f"## {entry.name}"
    for profile, artifact in certified(entry.name):
        steps = artifact.workload.steps
        runner = Runner(pipe, entry.with_workload(steps=steps))
        assert artifact.evidence is not None
        speedup = artifact.evidence.speedup
        if profile != before:
            yield f"### {steps} steps{', some left out' if artifact.schedule.partner else ''}"
        before = profile
        yield f"**{speedup.point:.2f}x** (certified: at least {speedup.lower_bound_95:.2f}x; `{profile}`)"
        for index, prompt in enumerate(prompts):
            if (steps, index) not in plain:
                plain[steps, index] = runner.generate(prompt, SEED + index).video
            tuned = runner.generate(prompt, SEED + index, artifact).video
            label = f"{psnr(tuned, plain[steps, index]):.1f} dB"
            made = film(Comparison(prompt, SEED + index, label, plain[steps, index], tuned), entry.fps)
            name = f"{entry.name}-{profile}-{artifact.target:g}-{index + 1}.mp4"
            (DOCS / FOLDER / name).write_bytes(base64.b64decode(made.data))
            print(f"{name}: {label}", flush=True)
            yield (  # the site shows the page from the films' folder
                f'<figure markdown="0"><video src="{name}" width="100%" controls loop muted playsinline></video>'
                f"<figcaption>{prompt}: {label}</figcaption></figure>"
            )


def main() -> None:
    (DOCS / FOLDER).mkdir(exist_ok=True)
    for old in (DOCS / FOLDER).glob("*.mp4"):
        old.unlink()
    lines = [
        "# Gallery",
        "Plain, tuned, and how they differ "
        f"({DIFFERENCE_GAIN} times as strong), from left to right in one film, so that they play in step. Prompts and "
        "seeds are in no certificate and no benchmark, and were not chosen. Made by `python docs/gallery.py`.",
    ]
    for entry in ENTRIES:
        lines += films(entry)
    (DOCS / "gallery.md").write_text("\n\n".join(lines) + "\n")


if __name__ == "__main__":
    main()

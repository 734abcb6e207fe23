"""Options that several commands share."""

from __future__ import annotations

import re
import shlex
import sys
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tuner.errors import UsageError

if TYPE_CHECKING:
    from tuner.models import LoadOptions, WorkloadOptions


USUAL = "the model's own"
PASSWORD = re.compile(r"(://[^/@:\s]*:)[^@\s]*@")


class OffloadChoice(StrEnum):
    """What `--offload` takes."""

    NONE = "none"
    MODEL = "model"
    GROUP = "group"


class QuantizeChoice(StrEnum):
    """What `--quantize` takes."""

    INT8 = "int8"


class ActionsChoice(StrEnum):
    """What `--actions` takes."""

    ALL = "all"
    COPY = "copy"


def speedup_from(text: str | float) -> float:
    """A speed-up as people write it: 1.3 or 1.3x.

    Raises:
        BadParameter: it is neither.
    """
    try:
        return float(str(text).strip().removesuffix("x"))
    except ValueError:
        raise typer.BadParameter(f"'{text}' is no speed-up; give one such as 1.3.") from None


Model = Annotated[str, typer.Option("--model", help="Name of a model; `asymrnr-tune models` lists them.")]
Resume = Annotated[bool, typer.Option(help="Go on from what the output folder already holds.")]
Device = Annotated[str, typer.Option(help="Torch device.")]
Weights = Annotated[
    Path | None, typer.Option(help="Folder of a pipeline saved with save_pretrained, instead of the hub's weights.")
]
Offload = Annotated[
    OffloadChoice,
    typer.Option(metavar="KIND", help="Keep parts that are not running off the GPU: none, model, or group."),
]
Backend = Annotated[
    str | None, typer.Option("--attention-backend", help="What computes attention, as diffusers calls it: flash, sage.")
]
Loras = Annotated[
    list[str] | None,
    typer.Option(
        "--lora",
        metavar="SOURCE",
        help="A LoRA to tune with: a file, a folder, or a repository of the hub, with :WEIGHT where that is not 1; "
        "more than once for more.",
    ),
]
Quantize = Annotated[
    QuantizeChoice | None,
    typer.Option(help="Keep the denoiser's weights in fewer bits (torchao, weight-only).", show_default="none"),
]
LpipsWeights = Annotated[
    Path | None,
    typer.Option(help="torchvision's AlexNet weights for LPIPS; without them it is reported with random features."),
]


ActionChoices = Annotated[
    ActionsChoice,
    typer.Option("--actions", help="copy: only what the paper does; all: restore with memory and broadcast as well."),
]
Memory = Annotated[
    float | None,
    typer.Option(
        help="GiB that may be kept from step to step to restore with or to broadcast.",
        show_default="a quarter of a GPU's",
    ),
]
Partner = Annotated[
    str | None,
    typer.Option(
        "--with",
        help="auto: the search may leave out whole steps, too; none: every step is computed; or a cache of diffusers "
        "to plan around, such as first-block-cache:0.1.",
        show_default="auto; with --actions copy none",
    ),
]
Compare = Annotated[
    bool,
    typer.Option(
        "--compare/--no-compare",
        help="Measure diffusers' own caches as well, each on one held-out prompt; takes about 17 generations more.",
    ),
]
Also = Annotated[
    list[float] | None,
    typer.Option(
        parser=speedup_from,
        metavar="X",
        help="A further speed-up to certify from the same profile, once the first one is; more than once for more.",
    ),
]
Workers = Annotated[
    str | None,
    typer.Option(
        metavar="WORKERS",
        help="Measure side by side: N workers on this machine, or ray://HOST:PORT for a cluster; needs the extra "
        "`distributed`.",
        show_default="in this process",
    ),
]
Store = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="A database that shares measurements between runs and machines, postgresql://...; needs the extra "
        "`distributed`.",
        show_default="the run's folder alone",
    ),
]
Lease = Annotated[
    float,
    typer.Option(
        help="Seconds without a denoising step after which a worker is taken to be dead, and its measurement made "
        "by another."
    ),
]
LARGEST_SEED = 2**32 - 1  # of Optuna's samplers


def seed_from(value: int) -> int:
    """A seed that every generator of random numbers takes.

    Raises:
        UsageError: it is none.
    """
    if not 0 <= value <= LARGEST_SEED:
        raise UsageError(f"--seed is {value}; give 0 to {LARGEST_SEED}.")
    return value


Seed = Annotated[int, typer.Option(callback=seed_from, help="Seed of the noise, and of what is drawn at random.")]
Steps = Annotated[int | None, typer.Option(help="Denoising steps.", show_default=USUAL)]
Frames = Annotated[int | None, typer.Option(help="Frames of a video.", show_default=USUAL)]
Height = Annotated[int | None, typer.Option(help="Height of a video, in pixels.", show_default=USUAL)]
Width = Annotated[int | None, typer.Option(help="Width of a video, in pixels.", show_default=USUAL)]
Prompts = Annotated[
    Path | None,
    typer.Option(
        help="Text file of prompts, one a line: the first three to tune on, all others, at least four, to certify on. "
        "IMAGE | PROMPT for models that start from a picture, VIDEO | PROMPT from a video.",
        show_default=USUAL,
    ),
]


def load_options(
    weights: Path | None,
    offload: OffloadChoice,
    attention_backend: str | None,
    loras: list[str] | None,
    quantize: QuantizeChoice | None,
) -> LoadOptions:
    """How to load a model, as the options above say."""
    from tuner.models import LoadOptions

    how: Any = None if quantize is None else quantize.value
    return LoadOptions(weights, offload.value, attention_backend, tuple(loras or ()), how)


def workload_options(
    steps: int | None, frames: int | None, height: int | None, width: int | None, prompts: Path | None = None
) -> WorkloadOptions:
    """What to generate, as the options above say.

    Raises:
        UsageError: the prompts cannot be read.
    """
    from tuner.models import WorkloadOptions
    from tuner.models.prompts import read_prompts

    chosen = WorkloadOptions(steps, frames, height, width)
    if prompts is None:
        return chosen
    return replace(chosen, prompts=read_prompts(prompts), folder=str(prompts.absolute().parent))


def command_line() -> str:
    """The command as it was typed, for the record, without passwords."""
    return PASSWORD.sub(r"\1***@", shlex.join(["asymrnr-tune", *sys.argv[1:]]))

"""What a run would take of a GPU that is not here: time from counted operations, memory from shapes; all estimates.

Time: a card is taken to compute so many operations a second of a whole generation, which is what the paper's times of
its five models amount to. Memory: weights, what one pass of the denoiser needs beside them, and what this project adds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from tuner.models.entry import ModelEntry
from tuner.models.figures import FIGURES, Figures
from tuner.models.loading import LoadOptions
from tuner.outlook import Outlook, Part
from tuner.paper.architectures import ARCHITECTURES, Architecture
from tuner.paper.counter import count_flops
from tuner.profile.footprint import CallShape, kept_bytes, passing_bytes
from tuner.search.space import SearchSpace
from tuner.stages.profile import settings_for
from tuner.throughput import Throughput

TERA, GB, HOUR = 1e12, 1e9, 3600
PASS = 10  # widths that a block holds of every token: residual, normed, and twice the 4 of a feed-forward
DECODER = 1.5  # GB, weights of the largest decoder
GROUP = 0.5  # GB, more than two of the largest layers: the one that runs, and the next one on its way


PLAIN, PROFILING, TUNED = "plain generation", "profiling", "tuned generation"
LONG_SECONDS = 20 * 60.0  # of one generation, from which on a run takes few of them where nothing else is said
LONG_BUDGET = 12.0
PREFLIGHT = 0.7  # generations; steps that are timed, 36 or so in all


@dataclass(frozen=True)
class Card:
    """A GPU.

    Attributes:
        title: its name.
        memory: GB.
        speed: 10^12 operations a second over a whole generation.
        origin: where the speed comes from.
    """

    title: str
    memory: float
    speed: float
    origin: str


CARDS = {
    "a100": Card("NVIDIA A100, 80 GB", 80, 91, "the paper's times of CogVideoX-2B and -5B amount to 87 and 96"),
    "h100": Card("NVIDIA H100, 80 GB", 80, 151, "the paper's times of Mochi and HunyuanVideo amount to 137 to 178"),
    "h200": Card("NVIDIA H200, 141 GB", 141, 151, "taken to be an H100's"),
    "rtx4090": Card("NVIDIA RTX 4090, 24 GB", 24, 48, "an A100's, times the ratio of the peaks in bfloat16"),
}


WAYS = {
    "as it is": LoadOptions(),
    "--offload model": LoadOptions(offload="model"),
    "--offload model --quantize int8": LoadOptions(offload="model", quantize="int8"),
    "--offload group": LoadOptions(offload="group"),
}
"""To try in turn: the last one moves every layer's weights in every step, which takes its time."""


@dataclass(frozen=True)
class Memory:
    """GB at the peak of every stage; see `needs`.

    Attributes:
        weights: of the denoiser and the decoder.
        in_8_bits: the same with `--quantize int8`.
        text: of the text encoders, which offloading moves away.
        one_pass: what a pass of the denoiser needs beside its weights.
        profile: what profiling adds.
        schedule: what a schedule keeps that broadcasts in all blocks, which no other exceeds.
    """

    weights: float
    in_8_bits: float
    text: float
    one_pass: float
    profile: float
    schedule: float

    def peaks(self, load: LoadOptions, limit: float) -> dict[str, float]:
        """Of a generation, of profiling and of a tuned generation.

        Args:
            load: how the model is loaded.
            limit: GB that a schedule may keep.
        """
        kept = GROUP if load.offload == "group" else self.in_8_bits if load.quantize else self.weights
        plain = kept + self.one_pass + (self.text if load.offload == "none" else 0.0)
        return {PLAIN: plain, PROFILING: plain + self.profile, TUNED: plain + min(self.schedule, limit)}


def generation_seconds(model: str, on: Card) -> tuple[float, str]:
    """One unaccelerated generation, and where that comes from: the paper where it took such a card, else operations.

    Args:
        model: one of `FIGURES`.
        on: one of `CARDS`, or a measured one.
    """
    known = FIGURES[model]
    if known.seconds is not None and known.card is not None and CARDS[known.card] == on:
        return known.seconds, "measured in the paper"
    operations = count_flops(ARCHITECTURES[model]).baseline_flops
    return operations / (on.speed * TERA), f"at {on.speed:.3g} TFLOP/s; {on.origin}"


def card_of(measured: Throughput, model: str) -> Card:
    """A device of which throughputs were measured, as fast as a model's share of attention makes it.

    Args:
        measured: of the device.
        model: one of `FIGURES`.
    """
    count = count_flops(ARCHITECTURES[model])
    seconds = measured.seconds(count.attention_flops, count.baseline_flops - count.attention_flops)
    origin = f"{measured.attention:.3g} measured of attention, {measured.linear:.3g} of linear layers"
    return Card(measured.title, measured.memory, count.baseline_flops / seconds / TERA, origin)


def budget_for(seconds: float | None, least: float, chosen: float, also: int = 0) -> float:
    """What may be spent where the user did not say: little where generations take long, but as much as is needed.

    Args:
        seconds: of one generation, None where it is not known.
        least: generations that a run takes where all goes well.
        chosen: what may be spent otherwise.
        also: further targets.
    """
    if seconds is None or seconds < LONG_SECONDS:
        return chosen
    return min(chosen, max(LONG_BUDGET * (1 + also), least + PREFLIGHT))


def generations(parts: list[Part], budget: float) -> tuple[float, float]:
    """How many a run takes, at the least and at the most."""
    least, most = Outlook(parts).left(0.0, budget) or (0.0, budget)
    return least, most


def needs(entry: ModelEntry, space: SearchSpace) -> Memory:
    """What a model needs of a GPU, on its own workload.

    Args:
        entry: one of `FIGURES`.
        space: its strides and cache steps are matched while profiling.
    """
    known, architecture = FIGURES[entry.name], ARCHITECTURES[entry.name]
    size, tokens = entry.dtype.itemsize, math.prod(architecture.grid) + architecture.text_tokens
    batch = architecture.cfg_batches // known.passes
    of_all = tokens * architecture.width * size * architecture.cfg_batches
    return Memory(
        weights=known.denoiser * size + DECODER,
        in_8_bits=known.denoiser + DECODER,
        text=known.text * size,
        one_pass=PASS * tokens * architecture.width * size * batch / GB,
        profile=profiling_bytes(known, architecture, space, size) / GB,
        schedule=len(architecture.blocks) * of_all / GB,
    )


def call_shape(known: Figures, architecture: Architecture, itemsize: int) -> CallShape:
    """An attention call of a model."""
    batch = architecture.cfg_batches // known.calls
    return CallShape(batch, known.heads, architecture.width // known.heads, architecture.grid, itemsize)


def profiling_bytes(known: Figures, architecture: Architecture, space: SearchSpace, itemsize: int) -> float:
    """What profiling adds to a model's own peak; at most `tuner.ceilings.PROFILING_BYTES`."""
    shape = call_shape(known, architecture, itemsize)
    kept = kept_bytes(shape, settings_for(space, architecture.steps, 0))
    return len(architecture.blocks) * known.calls * kept + passing_bytes(shape)

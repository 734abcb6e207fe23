"""What was measured on every held-out prompt, one row each."""

from __future__ import annotations

from dataclasses import dataclass

from tuner.certify.gates import DRIFT_LIMIT, NOISE_FLOOR_SHARE
from tuner.models import ModelEntry
from tuner.run.pair import Pair
from tuner.stages.certify import Certification


@dataclass(frozen=True)
class PromptRow:
    """One pair.

    Attributes:
        prompt, seed: what was generated.
        speedup: of the denoising steps.
        psnr, ssim: of the tuned to the plain video.
        change: mean squared error, over what another seed changes.
        warnings: what is worth knowing of this pair; gates judge all pairs together.
    """

    prompt: str
    seed: int
    speedup: float
    psnr: float
    ssim: float
    change: float
    warnings: tuple[str, ...]


def prompt_rows(certification: Certification, entry: ModelEntry, target: float) -> list[PromptRow]:
    """A row for every pair that was judged.

    Args:
        certification: the evidence.
        entry: the model, which may know what its videos should show.
        target: denoising speed-up asked for.
    """
    quality, rows = certification.quality, []
    for i, pair in enumerate(certification.pairs):
        change = quality["mse"][i] / certification.noise_floor
        drifts = {name: quality[f"{name}_drift"][i] for name in ("flicker", "sharpness")}
        warnings = (*_of_time(pair, target), *_of_video(change, drifts), *_lost(pair, entry))
        speedup, psnr, ssim = pair.denoise.speedup, quality["psnr"][i], quality["ssim"][i]
        rows.append(PromptRow(pair.prompt, pair.seed, speedup, psnr, ssim, change, warnings))
    return rows


def _of_time(pair: Pair, target: float) -> list[str]:
    found = pair.denoise
    warnings = [] if found.speedup >= target else [f"slower than {target:g}x by itself"]
    warnings += [f"{found.disturbed} of {found.steps} steps disturbed"] if found.disturbed else []
    return warnings + ([] if pair.mode == "lock-step" else [f"not in lock-step but {pair.mode}"])


def _of_video(change: float, drifts: dict[str, float]) -> list[str]:
    warnings = [f"changes by more than {NOISE_FLOOR_SHARE:.0%}"] if change > NOISE_FLOOR_SHARE else []
    for name, ratio in drifts.items():
        if max(ratio, 1 / ratio if ratio > 0 else float("inf")) > 1 + DRIFT_LIMIT:
            warnings.append(f"{name} moves by {ratio - 1:+.0%}")
    return warnings


def _lost(pair: Pair, entry: ModelEntry) -> list[str]:
    if entry.attributes is None:
        return []
    plain, tuned = (entry.attributes(side.video, pair.prompt) for side in (pair.plain, pair.tuned))
    return [f"{name} lost" for name, right in plain.items() if right and not tuned[name]]

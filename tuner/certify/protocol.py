"""Proof on held-out prompts and seeds: interleaved runs, a lower bound of the speed-up, and the quality gates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from asymrnr.schedule import Schedule
from tuner.certify import gates
from tuner.certify.gates import Gate
from tuner.certify.statistics import PairedRun, SpeedupEstimate, estimate_speedup
from tuner.quality.lpips import Lpips
from tuner.quality.metrics import flicker, mse, psnr, sharpness, ssim
from tuner.run.context import Context
from tuner.run.instrument import Measured

STAGE = "certify"
SEEDS_PER_ATTEMPT = 10
FIRST_SEED = 9_000_000  # never used for tuning or training


@dataclass(frozen=True)
class HeldOut:
    """One held-out pair: the same prompt and seed with and without the schedule."""

    prompt: str
    seed: int
    baseline: Measured
    tuned: Measured


@dataclass(frozen=True)
class Certification:
    """Evidence and verdicts.

    Attributes:
        denoise: speed-up of the denoising loop, with its 95 % lower bound.
        end_to_end: the same for whole calls, text encoder and decoder included.
        pairs: every held-out pair, for times and videos.
        quality: metric name to the values of every pair.
        gates: all verdicts.
    """

    denoise: SpeedupEstimate
    end_to_end: SpeedupEstimate
    pairs: list[HeldOut]
    quality: dict[str, list[float]]
    gates: list[Gate]

    @property
    def certified(self) -> bool:
        return all(gate.verdict != "FAIL" for gate in self.gates)

    def failed(self) -> list[Gate]:
        return [gate for gate in self.gates if gate.verdict == "FAIL"]


def held_out_plan(ctx: Context, pairs: int = 3) -> list[tuple[str, int]]:
    """Prompts and seeds of one to three pairs.

    The first prompt comes twice with different seeds, which gives the noise floor for nothing.
    """
    first, second = ctx.entry.held_out_prompts(2)
    return [(first, FIRST_SEED), (first, FIRST_SEED + 1), (second, FIRST_SEED + 2)][:pairs]


def cost_ie(target: float, pairs: int = 3, teacher_forced: bool = True) -> float:
    """What certification will cost: the pairs, and where wanted one tuned run along a recorded trajectory."""
    return pairs * (1 + 1 / target) + teacher_forced / target


def certify(
    ctx: Context,
    schedule: Schedule,
    pairs: int = 3,
    teacher_forced: bool = True,
    attempt: int = 0,
    noise_floor: float | None = None,
) -> Certification:
    """Generate every held-out pair in the order A B, B A, A B, and judge.

    Args:
        ctx: the run.
        schedule: what the tuned runs use.
        pairs: one to three; one needs the noise floor.
        teacher_forced: also measure the denoiser's error along the first unaccelerated trajectory; no gate needs it.
        attempt: every attempt has seeds of its own, so that no schedule is judged by runs that led to it.
        noise_floor: mean squared error between unaccelerated videos of different seeds, where it is known; otherwise
            the first two pairs tell.

    Raises:
        BudgetExhaustedError: the budget does not hold the runs.
        NonFiniteError: the schedule makes the model produce NaN.
    """
    plan = [(prompt, seed + SEEDS_PER_ATTEMPT * attempt) for prompt, seed in held_out_plan(ctx, pairs)]
    total = 2 * len(plan) + teacher_forced
    done = 0
    share = 1 / max(1.0, ctx.options.target_speedup)

    def run(prompt: str, seed: int, tuned: bool, record: bool = False) -> Measured:
        nonlocal done
        kind = "tuned" if tuned else "baseline"
        ctx.progress.advance(done, total, f"{kind}: {prompt}")
        measured = ctx.meter.generation(
            STAGE,
            prompt,
            seed,
            schedule if tuned else None,
            expected_ie=share if tuned else 1.0,
            record_trajectory=record,
        )
        done += 1
        ctx.report_budget()
        return measured

    ctx.progress.stage(STAGE, f"{len(plan)} held-out pairs, interleaved")
    found: list[HeldOut] = []
    for i, (prompt, seed) in enumerate(plan):
        if i % 2 == 0:
            baseline = run(prompt, seed, tuned=False, record=teacher_forced and i == 0)
            tuned = run(prompt, seed, tuned=True)
        else:
            tuned = run(prompt, seed, tuned=True)
            baseline = run(prompt, seed, tuned=False)
        found.append(HeldOut(prompt, seed, baseline, tuned))
    forced = None
    if teacher_forced:
        ctx.progress.advance(done, total, "teacher-forced error along the first baseline")
        forced = ctx.meter.generation(
            STAGE, plan[0][0], plan[0][1], schedule, expected_ie=share, forced=found[0].baseline.trajectory
        ).forced_error
    ctx.progress.advance(total, total)
    ctx.report_budget()
    if noise_floor is None:
        noise_floor = mse(found[0].baseline.video, found[1].baseline.video)
    return judge(ctx, schedule, found, forced, noise_floor)


def judge(
    ctx: Context, schedule: Schedule, pairs: list[HeldOut], forced_error: np.ndarray | None, noise_floor: float
) -> Certification:
    """Statistics and gates over finished held-out pairs; see `Measured` for the teacher-forced error."""
    runs = [PairedRun(p.baseline.step_seconds, p.tuned.step_seconds) for p in pairs]
    denoise = estimate_speedup(runs, seed=ctx.options.seed)
    whole = estimate_speedup(
        [PairedRun(np.array([p.baseline.seconds]), np.array([p.tuned.seconds])) for p in pairs], seed=ctx.options.seed
    )
    quality = measure_quality(pairs, Lpips(weights=ctx.options.lpips_weights))
    if forced_error is not None:
        quality["teacher_forced_error"] = [float(np.mean(forced_error))]
    planned = int(sum(np.count_nonzero(table) for table in schedule.rates.values()))
    verdicts = [
        gates.speedup_gate(denoise, ctx.options.target_speedup),
        gates.noise_gate(denoise.relative_mad),
        gates.applied_gate(min(p.tuned.reduced_sites for p in pairs), planned),
        gates.video_gate(quality["mse"], noise_floor),
        gates.drift_gate("flicker", quality["flicker_drift"]),
        gates.drift_gate("sharpness", quality["sharpness_drift"]),
    ]
    if ctx.entry.attributes is not None:
        right = {
            kind: [
                correct
                for pair in pairs
                for correct in ctx.entry.attributes(getattr(pair, kind).video, pair.prompt).values()
            ]
            for kind in ("baseline", "tuned")
        }
        verdicts.append(gates.attribute_gate(right["baseline"], right["tuned"]))
        quality["attributes_right"] = [float(np.mean(right["tuned"]))]
    return Certification(denoise, whole, pairs, quality, verdicts)


def measure_quality(pairs: list[HeldOut], lpips: Lpips) -> dict[str, list[float]]:
    """Every metric of tuned against unaccelerated, one value a pair."""

    def latent_error(pair: HeldOut) -> float:
        return float((pair.tuned.latents - pair.baseline.latents).norm() / pair.baseline.latents.norm())

    def drift(metric: object, pair: HeldOut) -> float:
        assert callable(metric)
        return float(metric(pair.tuned.video) / metric(pair.baseline.video))

    videos: list[tuple[torch.Tensor, torch.Tensor]] = [(p.tuned.video, p.baseline.video) for p in pairs]
    return {
        "mse": [mse(a, b) for a, b in videos],
        "psnr": [psnr(a, b) for a, b in videos],
        "ssim": [ssim(a, b) for a, b in videos],
        lpips.name: [lpips(a, b) for a, b in videos],
        "latent_error": [latent_error(p) for p in pairs],
        "flicker_drift": [drift(flicker, p) for p in pairs],
        "sharpness_drift": [drift(sharpness, p) for p in pairs],
    }

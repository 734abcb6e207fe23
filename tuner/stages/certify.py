"""Proof on held-out prompts and seeds: pairs in lock-step, added until every verdict is decided or the budget ends."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from asymrnr.schedule import Schedule
from tuner.certify import gates
from tuner.certify.gates import Gate
from tuner.certify.statistics import CONFIDENCE, LOOKS, SpeedupEstimate, alpha_at, estimate_speedup
from tuner.context import Context
from tuner.errors import BudgetExhaustedError
from tuner.latency.fit import Evidence
from tuner.quality.lpips import Lpips
from tuner.quality.metrics import flicker, mse, psnr, relative_l2, sharpness, ssim
from tuner.run.pair import Pair

STAGE = "certify"
FIRST_SEED = 9_000_000  # never used for tuning or training
LOOK_PAIRS = tuple(look.pairs for look in LOOKS)
MOST_PAIRS = LOOK_PAIRS[-1]
PROMPTS = 2 * MOST_PAIRS  # two attempts, none of which looks at what the other saw
REPEATS = 2  # of a pair that was disturbed
SLACK = 0.05  # a certified speed-up further above the target costs quality that nobody asked for
LEAST = 1e-9  # of flicker and sharpness; a plain video that has less of it has none


def too_fast(speedup: float, target: float) -> bool:
    """Whether a speed-up lies further above the target than a certificate should."""
    return speedup > target * (1 + SLACK)


@dataclass(frozen=True)
class Certification:
    """Evidence and verdicts.

    Attributes:
        schedule: what was judged.
        attempt: 0 for the first schedule that this run tried to certify, 1 for the second.
        alpha: share of the error probability spent at this look; 0.05 where no look was reached.
        denoise: speed-up of the denoising steps, with its bounds.
        end_to_end: the same for whole calls, text encoder and decoder included.
        pairs: every held-out pair judged.
        disturbed: pairs that were set aside because the machine was busy with something else.
        disturbed_steps: share of the steps that were disturbed in the pairs judged.
        quality: metric name to the values of every pair.
        gates: all verdicts.
        noise_floor: mean squared error between plain videos of different seeds.
        cut_short: why no more pairs were added although a verdict was open; None otherwise.
    """

    schedule: Schedule
    attempt: int
    alpha: float
    denoise: SpeedupEstimate
    end_to_end: SpeedupEstimate
    pairs: tuple[Pair, ...]
    disturbed: tuple[Pair, ...]
    disturbed_steps: float
    quality: dict[str, list[float]]
    gates: tuple[Gate, ...]
    noise_floor: float
    cut_short: str | None = None

    @property
    def certified(self) -> bool:
        """Whether no gate failed."""
        return not self.failed()

    def failed(self) -> list[Gate]:
        return [gate for gate in self.gates if gate.verdict == "FAIL"]

    @property
    def undecided(self) -> bool:
        """Whether more pairs could still turn every failed gate."""
        failed = self.failed()
        return bool(failed) and all(gate.open for gate in failed)

    def settled(self, target: float) -> bool:
        """Whether more pairs are of no use: none could turn what failed, or show that it is not too fast after all.

        For the latter one further look is taken: a second attempt takes four pairs, all looks eight more.
        """
        low = self.denoise.lower_bound_95
        surely = low is not None and too_fast(low, target)
        perhaps = self.certified and too_fast(self.denoise.point, target) and not surely
        return not self.undecided and not (perhaps and len(self.pairs) < LOOK_PAIRS[1])

    @property
    def evidence(self) -> list[Evidence]:
        """For the latency model."""
        found = [pair.denoise for pair in self.pairs]
        return [Evidence(self.schedule, e.log_speedup, e.standard_error) for e in found]


def held_out_plan(ctx: Context, attempt: int = 0) -> list[tuple[str, int]]:
    """Prompts and seeds of an attempt's pairs, all prompts different; they rotate with the run's seed.

    Where a user gives fewer prompts than two attempts may take, the second keeps enough for its first look if that
    leaves the first one its last but one; otherwise the first has all.
    """
    prompts = ctx.entry.held_out_prompts(PROMPTS)
    first = LOOKS[0].pairs * ctx.options.seed
    order = [(first + i) % len(prompts) for i in range(len(prompts))]
    spared = len(order) - LOOK_PAIRS[0]
    split = min(MOST_PAIRS, spared if spared >= LOOK_PAIRS[-2] else len(order))
    mine = order[split : split + MOST_PAIRS] if attempt else order[:split]
    return [(prompts[i], FIRST_SEED + PROMPTS * ctx.options.seed + i) for i in mine]


def cost_ie(speedup: float, pairs: int = LOOKS[0].pairs) -> float:
    """What so many pairs cost, in unaccelerated generations."""
    return pairs * (1 + 1 / speedup)


def certify(
    ctx: Context,
    schedule: Schedule,
    expected_speedup: float,
    noise_floor: float,
    attempt: int = 0,
    looks: Sequence[int] = LOOK_PAIRS,
    keep: Callable[[Certification], None] = lambda _: None,
) -> Certification:
    """Add pairs from look to look, until every gate is decided, or the budget ends; see `settled`.

    Args:
        ctx: the run.
        schedule: what the tuned sides use.
        expected_speedup: for the budget.
        noise_floor: mean squared error between plain videos of different seeds, which quality is held against.
        attempt: every attempt has prompts of its own, so that no schedule is judged by what led to it.
        looks: numbers of pairs at which to judge; those beyond the held-out prompts there are fall away.
        keep: told of the state after every look.

    Raises:
        BudgetExhaustedError: the budget does not hold one pair, or there are too few prompts for the first look.
        NonFiniteError: the schedule makes the model produce NaN.
    """
    plan = held_out_plan(ctx, attempt)
    looks = [look for look in looks if look <= len(plan)]
    if not looks:
        raise BudgetExhaustedError(f"Only {len(plan)} held-out prompts are left for attempt {attempt + 1}; give more.")
    lpips = Lpips(weights=ctx.options.lpips_weights)
    pairs: list[Pair] = []
    measured: list[dict[str, float]] = []  # quality of every pair
    disturbed: list[Pair] = []
    state: Certification | None = None
    ctx.progress.stage(STAGE, f"held-out pairs in lock-step, judged at {', '.join(map(str, looks))}")
    for look in looks:
        stopped: str | None = None
        ahead = [
            ctx.instrument.pair_request(STAGE, *where, schedule, expected_speedup) for where in plan[len(pairs) : look]
        ]
        ctx.instrument.ahead(ahead, ctx.progress.advance)
        while len(pairs) < look:
            ctx.progress.advance(len(pairs), look, f"pair {len(pairs) + 1}: {plan[len(pairs)][0]}")
            try:
                pair = _undisturbed(ctx, plan[len(pairs)], schedule, expected_speedup, disturbed)
            except BudgetExhaustedError as error:
                if not pairs:
                    raise
                stopped = str(error)
                break
            if pair is None:
                stopped = "The machine was too busy to measure one pair undisturbed."
                break
            pairs.append(pair)
            ctx.report_budget()
        if not pairs:
            pairs, disturbed = disturbed[-1:], disturbed[:-1]
        if state is not None and len(pairs) == len(state.pairs):
            return _stopped(state, stopped)
        at_look = len(pairs) == look and look in LOOK_PAIRS
        alpha = alpha_at(look) if at_look else 1 - CONFIDENCE
        if stopped is not None and state is not None:  # between looks nothing may be judged
            return _stopped(state, stopped)
        measured += [measure_quality(pair, lpips) for pair in pairs[len(measured) :]]
        state = judge(ctx, schedule, attempt, alpha, pairs, measured, disturbed, noise_floor)
        ctx.progress.advance(len(pairs), look)
        ctx.progress.best(
            f"{state.denoise.point:.3f}x over {len(pairs)} held-out pairs"
            + ("" if state.denoise.lower_bound_95 is None else f", at least {state.denoise.lower_bound_95:.3f}x")
        )
        keep(state)
        if stopped is not None or state.settled(ctx.options.target_speedup):
            return _stopped(state, stopped)
    assert state is not None
    return state


def _stopped(state: Certification, why: str | None) -> Certification:
    return state if why is None else replace(state, cut_short=why)


def _undisturbed(
    ctx: Context, where: tuple[str, int], schedule: Schedule, expected: float, disturbed: list[Pair]
) -> Pair | None:
    """One pair, measured again where most of its steps were disturbed; None where it always was."""
    for repeat in range(1 + REPEATS):
        pair = ctx.instrument.pair(STAGE, *where, schedule, expected, repeat)
        if pair.denoise.usable:
            return pair
        disturbed.append(pair)
    return None


def judge(
    ctx: Context,
    schedule: Schedule,
    attempt: int,
    alpha: float,
    pairs: Sequence[Pair],
    measured: Sequence[dict[str, float]],
    disturbed: Sequence[Pair],
    noise_floor: float,
) -> Certification:
    """Statistics and gates over finished held-out pairs and their quality, see `measure_quality`."""
    denoise = estimate_speedup([p.denoise.log_speedup for p in pairs], alpha)
    whole = estimate_speedup([p.end_to_end for p in pairs], alpha)
    disturbed_steps = sum(p.denoise.disturbed for p in pairs) / sum(p.denoise.steps for p in pairs)
    quality = {name: [values[name] for values in measured] for name in measured[0]}
    planned, adaptive = schedule.planned_sites(), schedule.partner is not None and not schedule.reused_steps().any()
    changes = [error / noise_floor for error in quality["mse"]]
    verdicts = [
        gates.speedup_gate(denoise, ctx.options.target_speedup),
        gates.pairs_gate(len(pairs), LOOKS[0].pairs),
        gates.noise_gate(denoise.spread, disturbed_steps),
        gates.applied_gate(min(p.reduced_sites for p in pairs), planned, adaptive),
        gates.video_gate(changes, alpha),
        gates.drift_gate("flicker", quality["flicker_drift"], alpha),
        gates.drift_gate("sharpness", quality["sharpness_drift"], alpha),
    ]
    if ctx.entry.attributes is not None:
        right = {
            kind: [
                correct
                for pair in pairs
                for correct in ctx.entry.attributes(getattr(pair, kind).video, pair.prompt).values()
            ]
            for kind in ("plain", "tuned")
        }
        verdicts.append(gates.attribute_gate(right["plain"], right["tuned"]))
        quality["attributes_right"] = [float(np.mean(right["tuned"]))]
    return Certification(
        schedule,
        attempt,
        alpha,
        denoise,
        whole,
        tuple(pairs),
        tuple(disturbed),
        disturbed_steps,
        quality,
        tuple(verdicts),
        noise_floor,
    )


def measure_quality(pair: Pair, lpips: Lpips) -> dict[str, float]:
    """Every metric of tuned against plain."""
    tuned, plain = pair.tuned.video, pair.plain.video
    return {
        "mse": mse(tuned, plain),
        "psnr": psnr(tuned, plain),
        "ssim": ssim(tuned, plain),
        lpips.name: lpips(tuned, plain),
        "latent_error": relative_l2(pair.tuned.latents, pair.plain.latents),
        "flicker_drift": _ratio(flicker(tuned), flicker(plain)),
        "sharpness_drift": _ratio(sharpness(tuned), sharpness(plain)),
    }


def _ratio(tuned: float, plain: float) -> float:
    """Tuned over plain; 1 where a video has none of it with and without the schedule."""
    return 1.0 if tuned == plain else tuned / max(plain, LEAST)

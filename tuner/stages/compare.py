"""What diffusers' own caches give on a held-out prompt, so that nobody is left in the dark about two lines of code."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from asymrnr.errors import AsymRnRError
from asymrnr.partner import Partner
from tuner.context import Context
from tuner.errors import BudgetExhaustedError, NonFiniteError, UsageError
from tuner.latency.alongside import alone
from tuner.quality.metrics import mse, psnr
from tuner.run.pair import Pair
from tuner.stages.certify import held_out_plan
from tuner.stages.partner import calibration, ready

STAGE = "compare"
CACHES = (
    *("pyramid-attention-broadcast:2", "pyramid-attention-broadcast:3"),
    *("first-block-cache:0.05", "first-block-cache:0.1", "first-block-cache:0.2"),
    *("mag-cache:0.06", "mag-cache:0.12", "mag-cache:0.24"),
    *("taylorseer:2", "taylorseer:3"),
)
EXPECTED_IE = 17.0
TUNED = "the tuned schedule"


@dataclass(frozen=True)
class Compared:
    """One alternative on one prompt.

    Attributes:
        name: what it is.
        speedup: denoising speed-up; None where it could not be measured.
        psnr: in dB, to the unaccelerated video.
        note: what is to be said of it: that it does nothing, or why it could not be measured.
    """

    name: str
    speedup: float | None = None
    psnr: float | None = None
    note: str = ""

    @classmethod
    def of(cls, name: str, pair: Pair) -> Compared:
        """As a pair shows it."""
        idle = not pair.reduced_sites and mse(pair.tuned.video, pair.plain.video) == 0
        value = None if idle else psnr(pair.tuned.video, pair.plain.video)
        return cls(name, pair.denoise.speedup, value, "does nothing here" if idle else "")


def compare(ctx: Context, blocks: int, tuned: Pair | None = None) -> list[Compared]:
    """Every cache alone on the first held-out prompt, each beside the plain model in lock-step.

    Args:
        ctx: the run.
        blocks: of the model.
        tuned: the tuned schedule on this prompt, where it was measured; comes first.

    Returns:
        One for each; those that the budget does not hold say so.
    """
    prompt, seed = held_out_plan(ctx)[0]
    found = [] if tuned is None else [Compared.of(TUNED, tuned)]
    ctx.progress.stage(STAGE, f"diffusers' caches on '{prompt}'")
    _ahead(ctx, prompt, seed, blocks)
    for number, name in enumerate(CACHES):
        ctx.progress.advance(number, len(CACHES), name)
        try:
            schedule = alone(ready(ctx, Partner.parse(name)), blocks, ctx.entry.workload.steps)
            pair = ctx.instrument.pair(STAGE, prompt, seed, schedule)
        except BudgetExhaustedError:
            found.append(Compared(name, note="not measured: the budget is spent"))
        except (AsymRnRError, NonFiniteError, UsageError, ValueError, RuntimeError) as error:
            reason = str(error).strip().splitlines()[0].rstrip(".")
            found.append(Compared(name, note=f"does not work on {ctx.entry.name}: {reason}"))
        else:
            found.append(Compared.of(name, pair))
        ctx.report_budget()
    ctx.progress.advance(len(CACHES), len(CACHES))
    return found


def _ahead(ctx: Context, prompt: str, seed: int, blocks: int) -> None:
    """Have all of them measured side by side, those that are calibrated once the calibration is there."""
    measured = calibration(ctx)
    for calibrated in (False, True):
        known = ctx.instrument.store.get(measured.job.key)
        wanted = [] if calibrated else [measured]
        for name in CACHES:
            with suppress(AsymRnRError, ValueError, RuntimeError):  # said when it is its turn
                partner = Partner.parse(name)
                if partner.needs_calibration != calibrated or (calibrated and known is None):
                    continue
                if calibrated and known is not None:
                    partner = partner.calibrated(known.values["ratios"])
                schedule = alone(partner, blocks, ctx.entry.workload.steps)
                wanted.append(ctx.instrument.pair_request(STAGE, prompt, seed, schedule))
        ctx.instrument.ahead(wanted, ctx.progress.advance)

"""Further targets of a run, each verified and certified like the first, from one profile; and what lies between."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from asymrnr.artifact import Point
from tuner.context import Context
from tuner.errors import TunerError
from tuner.findings import Findings
from tuner.package import judged, predicted
from tuner.proof import prove, verdict_error
from tuner.stages.certify import STAGE as CERTIFY
from tuner.stages.certify import cost_ie
from tuner.stages.choice import aimed
from tuner.stages.verify import AIM, verify

STEP = 0.1  # between predicted speed-ups
NEAR = 0.03  # of a certified one, where none is needed


def prove_further(ctx: Context, findings: Findings, keep: Callable[[], None]) -> None:
    """Verify and certify every further target that was asked for; one that fails says why and ends no other.

    Args:
        ctx: the run.
        findings: of the first target, which is certified; those of the others are noted in `further`.
        keep: told whenever one more is certified.
    """
    early, profiled = findings.early, findings.profiled
    assert early is not None
    assert profiled is not None
    for target in ctx.options.also:
        at, found = ctx.at(target), Findings(early, profiled, noise_floor=findings.noise_floor)
        known = [each.verification for each in (findings, *findings.further) if each.verification is not None]
        findings.further.append(found)
        ctx.progress.stage(f"{target:g}x", "a further target")
        try:
            ctx.ledger.release(CERTIFY)
            ctx.ledger.reserve(CERTIFY, cost_ie(target))
            found.verification = verify(at, replace(early, model=known[-1].model), profiled, lambda _: None, known[0])
            prove(at, found, lambda: None)
            assert found.certification is not None
            if not found.certification.certified:
                raise verdict_error(found.certification)
        except TunerError as error:
            found.error = type(error)(f"For {target:g}x: {error}")
        else:
            keep()


def between(ctx: Context, findings: Findings) -> list[Point]:
    """Schedules for speed-ups below the fastest certified one: each of the kind of the next faster one, predicted.

    Nothing is predicted beyond what was certified.
    """
    proven = findings.certified(ctx.options)
    points = []
    for target in ladder(list(proven)):
        found = proven[min(faster for faster in proven if faster > target)]
        profiled, verification, certification = found.profiled, found.verification, found.certification
        assert profiled is not None
        assert verification is not None
        assert certification is not None
        measured = [*(v.evidence for v in verification.verified), *certification.evidence]
        aim = target * (1 + AIM)
        candidate, believed = aimed(ctx, profiled, verification.model, verification.chosen, measured, aim)
        if believed < target:  # its kind cannot
            continue
        prediction = predicted(ctx, candidate, believed, verification.model)
        points.append(Point(**judged(target, candidate.schedule, prediction)))
    return points


def ladder(targets: Sequence[float]) -> list[float]:
    """Speed-ups between 1 and the fastest of some targets, none of them close to one of these."""
    if not targets:
        return []
    steps = [round(1 + STEP * i, 2) for i in range(1, int((max(targets) - 1) / STEP) + 1)]
    return [step for step in steps if step < max(targets) and all(abs(step - target) > NEAR for target in targets)]

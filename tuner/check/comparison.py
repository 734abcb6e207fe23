"""Whether one artifact claims less than another, beyond what either is unsure of."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from asymrnr.artifact import Artifact
from asymrnr.differences import differences
from tuner.check.claims import Claim, Estimate, claims
from tuner.errors import UsageError

Trend = Literal["better", "same", "worse"]


@dataclass(frozen=True)
class Change:
    """One quantity of two schedules that were made for the same speed-up.

    Attributes:
        name: of the schedules.
        quantity: what is compared.
        before, after: in words.
        trend: "same" where the difference is within what both are unsure of.
    """

    name: str
    quantity: str
    before: str
    after: str
    trend: Trend


@dataclass(frozen=True)
class Comparison:
    """A new artifact against an old one.

    Attributes:
        changes: of every schedule that both have evidence of, or that one certifies.
        settings: what else differs, in sentences.
    """

    changes: tuple[Change, ...]
    settings: tuple[str, ...]

    @property
    def worse(self) -> list[Change]:
        """What got worse beyond its uncertainty."""
        return [change for change in self.changes if change.trend == "worse"]


def compare(old: Artifact, new: Artifact) -> Comparison:
    """Compare two artifacts of one model and workload.

    A difference counts where it exceeds the root of the sum of both 95 % half widths squared. Of two equally good
    schedules the new one seems worse so in fewer than 5 of 100 comparisons.

    Raises:
        UsageError: they are for different models or workloads, which cannot be compared.
    """
    envelopes = [{**a.model.model_dump(exclude={"revision"}), **a.workload.model_dump()} for a in (old, new)]
    if other := differences(*envelopes):
        raise UsageError(f"The artifacts are not for the same: {' '.join(other)} Compare those of one workload.")
    before, after = ({claim.name: claim for claim in claims(artifact)} for artifact in (old, new))
    changes: list[Change] = []
    for name, was in before.items():
        now = after.get(name)
        if now is None:
            if was.verdict == "certified":
                changes.append(Change(name, "verdict", was.verdict, "missing", "worse"))
            continue
        changes += _changes(was, now)
    missing = [claim for name, claim in after.items() if name not in before and claim.verdict == "certified"]
    changes += [Change(claim.name, "verdict", "missing", claim.verdict, "better") for claim in missing]
    return Comparison(tuple(changes), tuple(_settings(old, new)))


def _changes(was: Claim, now: Claim) -> list[Change]:
    found = []
    rank = {"certified": 2, "predicted": 1, "refused": 1}
    if was.verdict != now.verdict:
        sign = rank[now.verdict] - rank[was.verdict]
        trend: Trend = "better" if sign > 0 else "worse" if sign < 0 else "same"
        found.append(Change(now.name, "verdict", was.verdict, now.verdict, trend))
    if was.log_speedup is not None and now.log_speedup is not None:
        trend = _trend(was.log_speedup, now.log_speedup)
        found.append(Change(now.name, "speed-up", was.speedup, now.speedup, trend))
    if was.psnr is not None and now.psnr is not None:
        found.append(Change(now.name, "PSNR", was.quality, now.quality, _trend(was.psnr, now.psnr)))
    return found


def _trend(was: Estimate, now: Estimate) -> Trend:
    """Both grow for the better."""
    difference, unsure = now.value - was.value, math.hypot(was.half_width, now.half_width)
    if abs(difference) <= unsure:
        return "same"
    return "better" if difference > 0 else "worse"


def _settings(old: Artifact, new: Artifact) -> list[str]:
    def said(artifact: Artifact) -> dict[str, Any]:
        schedule = artifact.schedule.model_dump(exclude={"rates", "actions", "thresholds", "timesteps", "partner"})
        partner = artifact.schedule.partner
        return {
            "revision": artifact.model.revision,
            **schedule,
            "partner": None if partner is None else partner.cache,
            "machine": artifact.provenance.environment,
        }

    found = differences(said(old), said(new))
    same = old.schedule.schedule().content_hash() == new.schedule.schedule().content_hash()
    return found if same else ["The schedules differ.", *found]

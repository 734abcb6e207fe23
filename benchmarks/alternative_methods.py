"""The methods that `alternatives.py` compares: schedules tuned, by hand and by the paper's heuristic, and caches."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import caches
from alternatives_report import BETWEEN, HEURISTIC, TUNED
from embedded import shipped_schedule
from kept_results import Row
from lockstep_methods import Install
from methods import tune_heuristic
from restoration import Uniform

from asymrnr import Action, Schedule
from asymrnr.artifact_io import load_artifact
from tuner.profile.profile import Profile
from tuner.run.runner import Runner

LEAD = 6  # schedules by hand compute one in so many of the steps in full before anything else
PAB_TIMESTEPS, FASTER_TIMESTEPS = ((100, 850), (-1, 950)), ((-1, 681), (-1, 901))
MEMORY = ((0.5, 2), (0.7, 2), (0.8, 2), (0.7, 3), (0.8, 3), (0.8, 5))  # rates and periods of uniform schedules
HEURISTIC_SPEEDS = (1.1, 1.2, 1.3, 1.4, 1.6)
NTH = {2: "2nd", 3: "3rd", 4: "4th"}


@dataclass(frozen=True)
class Alternative:
    """A method, with a schedule or something that is installed; the names are those of its family and setting."""

    family: str
    name: str
    schedule: Schedule | None = None
    install: Install | None = None

    def names(self) -> Row:
        return {"family": self.family, "method": self.name}


def from_file(family: str, path: Path, steps: int) -> list[Alternative]:
    """The schedules of an artifact that were measured: the one it was tuned for, and those certified beside it.

    Raises:
        SystemExit: it is for another number of steps.
    """
    artifact = load_artifact(path, policy="off")
    if artifact.workload.steps != steps:
        raise SystemExit(f"{path} is for {artifact.workload.steps} steps, but --steps is {steps}.")
    name = f"{path.resolve().parent.name}/{path.stem}"
    others = [point for point in artifact.frontier if point.proven]
    return [
        tuned(family, name, artifact.schedule_object()),
        *(tuned(family, f"{name} for {point.target:g}x", point.schedule.schedule()) for point in others),
    ]


def tuned(family: str, name: str, schedule: Schedule) -> Alternative:
    """Named with its hash, so that what was measured of another one under the same name is not taken for its."""
    return Alternative(family, f"{name} ({schedule.content_hash()[:8]})", schedule)


def by_hand(blocks: int, steps: int) -> list[Alternative]:
    """Uniform schedules that need no tuning."""
    lead = max(1, steps // LEAD)
    families = {
        "uniform copying": [Uniform(Action.REDUCE, rate) for rate in (0.3, 0.5)],
        "uniform memory": [Uniform(Action.MEMORY, rate, period=period, lead=lead) for rate, period in MEMORY],
        "uniform broadcasting": [Uniform(Action.BROADCAST, period=period, lead=lead) for period in (2, 3, 4)],
    }
    return [
        Alternative(family, str(uniform), uniform.schedule(blocks, steps))
        for family, uniforms in families.items()
        for uniform in uniforms
    ]


def by_heuristic(runner: Runner, profile: Profile) -> list[Alternative]:
    """The paper's Appendix B, brought to several speeds by the latency model."""
    assert profile.latency is not None
    found = tune_heuristic(runner, profile)
    schedules = {speed: found.build(profile.latency, speed) for speed in HEURISTIC_SPEEDS}
    return [tuned(HEURISTIC, f"for {speed:g}x", schedule) for speed, schedule in schedules.items() if schedule]


def of_diffusers(steps: int) -> list[Alternative]:
    """The caches that come with diffusers, from careful to bold; some of them as they come."""
    lead = max(1, steps // LEAD)
    found = [
        Alternative("PAB", f"every {NTH[n]} step, timesteps {low} to {high}", install=caches.pyramid(n, (low, high)))
        for low, high in PAB_TIMESTEPS
        for n in (2, 3, 4)
    ]
    for threshold in (0.05, 0.1, *BETWEEN, 0.2, 0.3, 0.5):
        install = caches.first_block(threshold)
        found.append(Alternative("FirstBlockCache", f"threshold {threshold:g}", install=install))
    found.append(Alternative("FasterCache", "with the unconditional branch", install=caches.faster_guided()))
    for n, (low, high) in ((2, FASTER_TIMESTEPS[0]), (2, FASTER_TIMESTEPS[1]), (3, FASTER_TIMESTEPS[1])):
        name = f"attention of every {NTH[n]} step, timesteps {low} to {high}"
        found.append(Alternative("FasterCache", name, install=caches.faster(n, (low, high))))
    found.append(Alternative("TaylorSeer", "as it comes", install=caches.taylor_default()))
    for n in (2, 3, 4):
        install = caches.taylor_attention(n, lead)
        found.append(Alternative("TaylorSeer", f"attention of every {NTH[n]} step", install=install))
    for n in (2, 3):
        found.append(Alternative("TaylorSeer", f"lite, every {NTH[n]} step", install=caches.taylor_lite(n, lead)))
    for threshold in (0.06, 0.12, 0.24):
        found.append(Alternative("MagCache", f"threshold {threshold:g}", install=caches.mag(threshold)))
    return [*found, Alternative("SeaCache", "told where the latents are", install=caches.sea())]


def quick(blocks: int, steps: int) -> list[Alternative]:
    """One of each kind."""
    uniform = Uniform(Action.BROADCAST, period=2)
    return [
        tuned(TUNED, "shipped", shipped_schedule(steps)),
        Alternative("uniform broadcasting", str(uniform), uniform.schedule(blocks, steps)),
        Alternative("PAB", "every 2nd step", install=caches.pyramid(2, PAB_TIMESTEPS[1])),
    ]

"""The tuned schedule and what it has to beat, each brought to the same measured speed-up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from lockstep_methods import beside_plain

from asymrnr.schedule import Schedule
from tuner.certify.gates import attribute_gate, video_gate
from tuner.latency.fit import Evidence, fit
from tuner.latency.model import LatencyModel
from tuner.paper.heuristic import THRESHOLD_STEP, Attempt, HandRule, tune_by_hand
from tuner.profile.profile import Profile
from tuner.quality.metrics import mse
from tuner.run.estimate import PairEstimate
from tuner.run.runner import Generation, Runner
from tuner.search.scale import smallest_scale
from tuner.search.space import SearchSpace
from tuner.search.targets import solve_targets
from tuner.search.trust import Trust
from tuner.search.uniform import uniform_schedule

PAPER = ("2x2x2", 5)  # stride and cache step of the paper's setting for CogVideoX
MAX_RATE = 0.875  # of that stride
ALIGNMENTS = 2
Build = Callable[[LatencyModel, float], Schedule | None]


@dataclass
class Method:
    """One way to get a schedule for a speed-up (None: out of reach), and what its generations showed."""

    name: str
    build: Build
    tuning_ie: float
    fixed: bool = False  # builds the same schedule whatever the speed-up
    schedule: Schedule | None = None
    runs: list[Generation] = field(default_factory=list)
    estimates: list[PairEstimate] = field(default_factory=list)
    forced: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class ByHand:
    """What Appendix B came to: its best attempt, every attempt, what it cost, and what makes its schedules."""

    best: Attempt | None
    attempts: list[Attempt]
    tuning_ie: float
    rule: HandRule

    def build(self, model: LatencyModel, speedup: float) -> Schedule | None:
        """The rule with its rate scaled to a speed-up; a lower threshold only where no rate reaches it."""
        threshold = 0.5 if self.best is None else self.best.threshold
        while threshold > -1e-9:
            found = smallest_scale(lambda scale, t=threshold: self.rule.schedule(t, scale * MAX_RATE), model, speedup)  # type: ignore[misc]
            if found is not None:
                return found
            threshold -= THRESHOLD_STEP
        return None


def tune_heuristic(runner: Runner, profile: Profile) -> ByHand:
    """Appendix B on one tuning prompt; "looks good" is the certificate's video and attribute gates."""
    rule = HandRule.of(profile, *PAPER, MAX_RATE)
    attributes = runner.entry.attributes
    assert attributes is not None
    prompt = runner.entry.tuning_prompts(1)[0]
    plain, other_seed = runner.generate(prompt, 1), runner.generate(prompt, 2)
    floor, right = mse(plain.video, other_seed.video), list(attributes(plain.video, prompt).values())
    seconds = [plain.seconds, other_seed.seconds]

    def looks_good(schedule: Schedule) -> bool:
        generation = runner.generate(prompt, 1, schedule)
        seconds.append(generation.seconds)
        verdicts = [
            video_gate([mse(generation.video, plain.video) / floor]),
            attribute_gate(right, list(attributes(generation.video, prompt).values())),
        ]
        print(f"  heuristic: attention {schedule.attention_cost():.2f}  {verdicts[0].message}")
        return all(gate.verdict != "FAIL" for gate in verdicts)

    best, attempts = tune_by_hand(rule, looks_good)
    return ByHand(best, attempts, sum(seconds) / float(np.mean(seconds[:2])), rule)


def contenders(
    tuned: Schedule, tuning_ie: float, by_hand: ByHand, profile: Profile, space: SearchSpace
) -> list[Method]:
    """The tuned schedule first, then what it has to beat."""
    shape, shuffled = (tuned.blocks, tuned.steps), replace(tuned, metric="random")

    def uniform(model: LatencyModel, speedup: float) -> Schedule | None:
        return uniform_schedule(model, speedup, shape, ("Q",), MAX_RATE, **by_hand.rule.settings)

    def unpooled(model: LatencyModel, speedup: float) -> Schedule | None:
        found = solve_targets(profile, model, space.model_copy(update={"trusts": (Trust(),)}), [speedup])[0]
        return None if found is None else found.schedule

    return [
        Method("tuned", lambda model, speedup: tuned, tuning_ie, fixed=True),
        Method("heuristic (Appendix B)", by_hand.build, by_hand.tuning_ie),
        Method("uniform Q", uniform, 0.0),
        Method("table of least error as measured", unpooled, tuning_ie),
        Method("tuned rates, random matching", lambda model, speedup: shuffled, tuning_ie, fixed=True),
    ]


def align(
    method: Method, runner: Runner, twin: Runner, prior: LatencyModel, prompt: str, seed: int, speedup: float
) -> None:
    """Settle the method's schedule so that its measured speed-up is the one wanted, where it has a choice.

    Args:
        method: whose schedule.
        runner, twin: the model and its twin.
        prior: latency model before this method was measured.
        prompt, seed: what is generated to measure.
        speedup: wanted.
    """
    method.schedule = method.build(prior, speedup)
    evidence: list[Evidence] = []
    for _ in range(ALIGNMENTS):
        if method.schedule is None or method.fixed:
            return
        found = beside_plain(runner, twin, prompt, seed, method.schedule).estimate
        evidence.append(Evidence(method.schedule, found.log_speedup, found.standard_error))
        model = fit(prior, evidence)
        own = found.speedup / model.speedup(method.schedule)  # what sets this method apart from the model
        method.schedule = method.build(model, speedup / own)

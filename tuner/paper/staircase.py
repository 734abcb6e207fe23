"""Where the paper's heuristic goes on the surrogate, to be drawn beside what the search found."""

from __future__ import annotations

from tuner.latency.model import LatencyModel
from tuner.paper.heuristic import RATE_STEP, START_RATE, START_THRESHOLD, HandRule
from tuner.profile.profile import Profile
from tuner.search.error import ErrorModel
from tuner.search.result import FrontierPoint


def staircase(profile: Profile, model: LatencyModel, errors: ErrorModel) -> list[FrontierPoint]:
    """Predicted speed-up and error of Appendix B's first threshold at rates 0.3, 0.5, ... up to the highest.

    Args:
        profile: similarities and error curves; its first stride and its longest cache step are used.
        model: predicts the speed-up.
        errors: predicts the error.
    """
    stride = next(iter(profile.q_error))[0]
    cache_step = max(step for name, step in profile.q_error if name == stride)
    highest = errors.largest_rate(stride)
    rule = HandRule.of(profile, stride, cache_step, highest)
    points, rate = [], START_RATE
    while True:
        schedule = rule.schedule(START_THRESHOLD, rate)
        points.append(FrontierPoint(model.speedup(schedule), errors.predict(schedule)))
        if rate >= highest:
            return points
        rate += RATE_STEP

"""What would it be worth to damp what memory adds, O' = O(t0) + beta (M(t) - M(t0)), with the best beta of every site?

    python benchmarks/damping.py runs/tiny-cogvideox-x1.20/profile.safetensors

Beta 1 is memory as it is, 0 is broadcasting. A dropped token that changed by `a` since the refresh, and whose match
changed by `b`, is wrong by |b - a|^2 with memory, by |a|^2 broadcast, by |a|^2 - (a b)^2 / |b|^2 with the best beta.
A profile has the first two; destinations are drawn by lot, so that |b|^2 is |a|^2 on the whole. Then the best beta
leaves 1 - rho / 4 of the error with memory, rho being that over the error of broadcasting.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from tuner.profile.profile import Profile


def remaining(profile: Profile) -> dict[float, np.ndarray]:
    """By query rate, (sites,) what the best beta leaves of the squared error with memory; blocks, steps and gaps."""
    found = {}
    for stride, memory in profile.memory_error.items():
        every = profile.broadcast_error[stride]
        for index, rate in enumerate(profile.rates):
            if rate > 0:
                rho = memory[..., index] / rate / every
                found[float(rate)] = 1 - np.minimum(rho[np.isfinite(rho)], 4) / 4
    return found


def main() -> None:
    print("| rate | error left, median | the tenth of the sites with most to gain | all sites |")
    print("|---|---|---|---|")
    for rate, left in remaining(Profile.load(Path(sys.argv[1]))).items():
        print(f"| {rate:g} | {np.median(left):.3f} | {np.quantile(left, 0.1):.3f} | {left.mean():.3f} |")


if __name__ == "__main__":
    main()

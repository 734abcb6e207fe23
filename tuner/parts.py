"""What the whole job consists of, for its progress."""

from __future__ import annotations

from collections.abc import Sequence

from tuner.context import Context
from tuner.outlook import Part
from tuner.stages.certify import STAGE as CERTIFY
from tuner.stages.certify import cost_ie
from tuner.stages.compare import EXPECTED_IE as COMPARE_IE
from tuner.stages.compare import STAGE as COMPARE
from tuner.stages.noise_floor import STAGE as NOISE_FLOOR
from tuner.stages.noise_floor import cost_ie as noise_floor_ie
from tuner.stages.preflight import STAGE as PREFLIGHT
from tuner.stages.profile import EXPECTED_IE as PROFILE_IE
from tuner.stages.profile import STAGE as PROFILE
from tuner.stages.verify import SEARCH
from tuner.stages.verify import STAGE as VERIFY


def parts_of(ctx: Context) -> list[Part]:
    """The parts of a run; see `parts`."""
    options = ctx.options
    return parts(ctx.entry.workload.steps, options.target_speedup, options.also, options.compare)


def parts(steps: int, target: float, also: Sequence[float], compare: bool) -> list[Part]:
    """The parts in order, with what they take when one finalist will do and certificates come at the first look.

    Args:
        steps: of a generation.
        target: speed-up to certify.
        also: further ones.
        compare: diffusers' caches are measured as well.
    """
    found = [
        Part("preflight", (PREFLIGHT,)),
        Part("profile", (PROFILE,), PROFILE_IE),
        Part("search and verify", (SEARCH, VERIFY), cost_ie(target, 1)),
        Part("noise floor", (NOISE_FLOOR,), noise_floor_ie(steps)),
        Part("certify", (CERTIFY,), cost_ie(target)),
    ]
    for further in also:
        name, least = f"{further:g}x", cost_ie(further, 1) + cost_ie(further)
        found.append(Part(name, (name, SEARCH, VERIFY, CERTIFY), least))
    return [*found, Part("compare", (COMPARE,), COMPARE_IE)] if compare else found

"""What the profile and the predictions say about a certificate: checks that warn and never fail it."""

from __future__ import annotations

from dataclasses import replace

from tuner.certify import gates
from tuner.stages.certify import Certification
from tuner.stages.choice import Verification
from tuner.stages.profile import Profiled


def with_health(profiled: Profiled, verification: Verification, certification: Certification) -> Certification:
    """The certification with the checks of what it was found by."""
    profile = profiled.profile
    found = (
        gates.prediction_gate(verification.predicted_speedup, certification.denoise.point),
        gates.agreement_gate(profile.agreement),
        gates.observation_gate(profile.diagnostics["recomputed_rows"]),
    )
    return replace(certification, gates=(*certification.gates, *found))

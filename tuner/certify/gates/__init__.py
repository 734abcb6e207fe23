"""Health checks, one a file: each gives a verdict with the number it rests on and one sentence.

FAIL means no certificate; WARN is worth knowing.
"""

from tuner.certify.gates.agreement import agreement_gate
from tuner.certify.gates.applied import applied_gate
from tuner.certify.gates.attributes import attribute_gate
from tuner.certify.gates.drift import drift_gate
from tuner.certify.gates.gate import Gate, Verdict
from tuner.certify.gates.noise import noise_gate
from tuner.certify.gates.observation import observation_gate
from tuner.certify.gates.prediction import prediction_gate
from tuner.certify.gates.speedup import speedup_gate
from tuner.certify.gates.video import video_gate

__all__ = [
    "Gate",
    "Verdict",
    "agreement_gate",
    "applied_gate",
    "attribute_gate",
    "drift_gate",
    "noise_gate",
    "observation_gate",
    "prediction_gate",
    "speedup_gate",
    "video_gate",
]

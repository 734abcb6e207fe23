"""Did the latency model foresee what was measured?"""

from __future__ import annotations

from tuner.certify.gates.gate import Gate

PREDICTION_LIMIT = 0.05


def prediction_gate(predicted_speedup: float, measured_speedup: float, limit: float = PREDICTION_LIMIT) -> Gate:
    """Warn when the certified schedule ran much slower or faster than the corrected latency model said.

    Args:
        predicted_speedup, measured_speedup: denoising speed-ups of the schedule that was certified.
        limit: relative error that is unremarkable.
    """
    error = measured_speedup / predicted_speedup - 1
    return Gate(
        "prediction",
        "PASS" if abs(error) <= limit else "WARN",
        error,
        limit,
        f"Denoising is {measured_speedup:.2f}x faster where {predicted_speedup:.2f}x was predicted ({error:+.1%}), "
        f"with {limit:.0%} unremarkable",
    )

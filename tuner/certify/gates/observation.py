"""Does the profiler understand the model's attention?"""

from __future__ import annotations

from tuner.certify.gates.gate import Gate

RECOMPUTED_LIMIT = 1e-3


def observation_gate(recomputed: float, limit: float = RECOMPUTED_LIMIT) -> Gate:
    """Warn when attention recomputed from the queries, keys and values seen is not what the model computed.

    A mask or a scale the profiler does not know makes the predicted errors of reduced keys and values worthless.

    Args:
        recomputed: ||O' - O||^2 / ||O||^2 of the sampled rows, at the worst site.
        limit: what rounding explains.
    """
    return Gate(
        "observation",
        "PASS" if recomputed <= limit else "WARN",
        recomputed,
        limit,
        f"Attention recomputed from what was observed is off by {recomputed:.1e} (relative, squared), with {limit:g} "
        "unremarkable",
    )

"""Is what was profiled on one prompt true of another?"""

from __future__ import annotations

from collections.abc import Mapping

from tuner.certify.gates.gate import Gate
from tuner.profile.agreement import Agreement

AGREEMENT_LIMIT = 0.8


def agreement_gate(agreements: Mapping[str, Agreement], limit: float = AGREEMENT_LIMIT) -> Gate:
    """Warn when two prompts rank the sites by similarity differently; the paper takes the pattern to be the model's.

    Args:
        agreements: by feature; the worst one counts.
        limit: least rank correlation that is unremarkable.
    """
    feature, worst = min(agreements.items(), key=lambda item: item[1].spearman)
    return Gate(
        "agreement",
        "PASS" if worst.spearman >= limit else "WARN",
        worst.spearman,
        limit,
        f"Two prompts rank the sites by similarity of {feature} with a correlation of {worst.spearman:.2f} "
        f"({worst.low:.2f} to {worst.high:.2f}), the lowest of {', '.join(agreements)}, with {limit:g} expected",
    )

"""One verdict, with the number it rests on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["PASS", "WARN", "FAIL"]


@dataclass(frozen=True)
class Gate:
    """One verdict.

    Attributes:
        name: what was judged.
        verdict: PASS, WARN (worth knowing) or FAIL (no certificate).
        value: the number judged.
        threshold: what it was held against.
        message: one sentence, without a full stop.
    """

    name: str
    verdict: Verdict
    value: float
    threshold: float
    message: str

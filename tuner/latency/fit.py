"""Corrects the latency model by what schedules took: all measurements pooled, each as sure as it is.

1 / speed-up is affine in the coefficients (`LatencyModel.sensitivity`), so that the most likely ones solve a least
squares problem: a row for every measurement, the prior, and bounds that keep every predicted time positive.

A measurement many standard errors off is a disturbed one, or shows something the model does not have, and must not
dominate. Huber's weights min(1, k / r) of the standardised residuals r, found by reweighting, let it pull no more than
one that is k standard errors off, and leave the others as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace

import numpy as np
from scipy.linalg import cholesky, solve_triangular
from scipy.optimize import lsq_linear

from asymrnr.schedule import Schedule
from tuner.latency.model import Coefficients, LatencyModel

MISFIT = 0.01  # of a speed-up, relative: what the model gets wrong however well its coefficients are known
HUBER = 1.345  # k: loses 5 % of the precision where all errors are normal
ITERATIONS = 100
LARGEST_LOG = 100.0


@dataclass(frozen=True)
class Evidence:
    """What one schedule was measured to give.

    Attributes:
        schedule: what ran.
        log_speedup: natural logarithm of its denoising speed-up over the plain model, measured beside it.
        standard_error: of `log_speedup`, from 0; infinity says nothing.
        steps: (steps,) bool, those of its steps that were measured; None for all.
    """

    schedule: Schedule
    log_speedup: float
    standard_error: float
    steps: np.ndarray | None = None

    def __post_init__(self) -> None:
        """
        Raises:
            ValueError: a value is no number, the error negative, or the speed-up beyond all sense.
        """
        if not (abs(self.log_speedup) <= LARGEST_LOG and self.standard_error >= 0):
            raise ValueError("evidence needs a finite speed-up and a standard error from 0")


def fit(prior: LatencyModel, evidence: Sequence[Evidence]) -> LatencyModel:
    """The model that goes best with the prior's coefficients and covariance and with all measurements.

    Args:
        prior: as the micro-benchmarks gave it; a model already fitted if the evidence is new to it.
        evidence: in any order; without any, the prior comes back.

    Returns:
        The same sites and step with the most likely coefficients, and the covariance they are left with.

    Raises:
        UsageError: the latency of a schedule is not modelled.
    """
    if not evidence:
        return prior
    rows = np.array([prior.sensitivity(one.schedule, one.steps) for one in evidence])  # (n, 4)
    constant = np.array([1 - prior.left_out(one.schedule) for one in evidence])
    measured = np.exp([-one.log_speedup for one in evidence]) - constant
    relative = np.maximum([one.standard_error for one in evidence], MISFIT)
    mean, information = np.array(astuple(prior.coefficients)), np.linalg.inv(prior.covariance)
    found, normal = mean, information
    for _ in range(ITERATIONS):
        predicted = rows @ found
        deviations = (constant + predicted) * relative
        residuals = np.abs(measured - predicted) / deviations
        weights = HUBER / np.maximum(residuals, HUBER) / deviations**2
        normal = information + rows.T @ (weights[:, None] * rows)
        before, found = found, _bounded(normal, information @ mean + rows.T @ (weights * measured), prior.full_shares)
        if np.abs(found - before).max() < 1e-13:
            break
    covariance = np.linalg.inv(normal)
    symmetric = (covariance + covariance.T) / 2
    return replace(
        prior,
        coefficients=Coefficients(*found.tolist()),
        covariance=tuple(tuple(row) for row in symmetric.tolist()),
    )


def _bounded(normal: np.ndarray, right: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Minimises c @ normal @ c / 2 - right @ c over 0 <= c and shares @ c <= 1.

    Where the minimum without the second bound breaks it, that bound is met with equality, the problem being convex.
    Then the first of c follows from the others, which have bounds of their own.

    Args:
        normal: (n, n), positive definite.
        right: (n,)
        shares: (n,) from 0; the first is above it, and at most one other.

    Returns:
        (n,) c.
    """
    found = _least_squares(normal, right, np.full(len(right), np.inf))
    if shares @ found <= 1:
        return found
    # c = start + others_to_all @ others
    start = np.array([1 / shares[0], *np.zeros(len(right) - 1)])
    others_to_all = np.vstack([-shares[1:] / shares[0], np.eye(len(right) - 1)])
    with np.errstate(divide="ignore"):
        upper = 1 / shares[1:]
    reduced = others_to_all.T @ normal @ others_to_all
    others = _least_squares(reduced, others_to_all.T @ (right - normal @ start), upper)
    return np.maximum(start + others_to_all @ others, 0.0)


def _least_squares(normal: np.ndarray, right: np.ndarray, upper: np.ndarray) -> np.ndarray:
    """Minimises c @ normal @ c / 2 - right @ c over 0 <= c <= upper; the first is positive definite."""
    factor = cholesky(normal)  # factor.T @ factor
    target = solve_triangular(factor, right, trans="T")
    solution = lsq_linear(factor, target, bounds=(np.zeros_like(upper), upper), method="bvls", tol=1e-14)
    return np.clip(solution.x, 0.0, upper)

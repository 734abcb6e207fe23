"""The same knapsack as an integer program, to check the Lagrangian solution on instances of any shape."""

from __future__ import annotations

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array

from tuner.search.lagrangian import Assignment, Problem, evaluate


def solve_milp(problem: Problem, budget: float, time_limit: float = 30.0) -> Assignment | None:
    """Solve to optimality with HiGHS, or as far as the time limit allows.

    Args:
        problem: the problem.
        budget: seconds all sites may take.
        time_limit: seconds the solver may take.

    Returns:
        The assignment with the solver's own bound, or None when there is none.
    """
    blocks, steps, rates = problem.loss_q.shape
    items, windows = rates * rates, len(problem.starts)
    sites = blocks * steps
    n_items, n_matched = sites * items, 2 * blocks * windows
    losses = problem.losses.reshape(-1)
    allowed = np.isfinite(losses)
    largest = losses[allowed].max() or 1.0
    objective = np.concatenate([np.where(allowed, losses, 0.0) / largest, np.zeros(n_matched)])
    of_items = np.repeat(problem.seconds, steps, axis=0).reshape(-1)
    of_matched = np.tile(np.repeat(problem.matching, windows), 2)
    seconds = np.concatenate([of_items, of_matched]) / max(budget, 1e-12)

    item = np.arange(n_items)
    site = item // items
    one_each = coo_array((np.ones(n_items), (site, item)), shape=(sites, n_items + n_matched))
    rows, columns, entries = [], [], []
    for feature, index in enumerate((item % items // rates, item % rates)):
        uses = item[index > 0]
        window = site // steps * windows + site % steps // problem.cache_step
        row = feature * sites + site[uses]
        rows += [row, feature * sites + np.arange(sites)]
        columns += [uses, n_items + feature * blocks * windows + window[::items]]
        entries += [np.ones(len(uses)), -np.ones(sites)]
    linked = coo_array(
        (np.concatenate(entries), (np.concatenate(rows), np.concatenate(columns))),
        shape=(2 * sites, n_items + n_matched),
    )
    result = milp(
        objective,
        integrality=np.ones(n_items + n_matched),
        bounds=Bounds(0, np.concatenate([allowed.astype(float), np.ones(n_matched)])),
        constraints=[
            LinearConstraint(one_each, 1, 1),
            LinearConstraint(linked, -np.inf, 0),
            LinearConstraint(seconds[None], -np.inf, 1),
        ],
        options={"time_limit": time_limit},
    )
    if result.x is None:
        return None
    chosen = result.x[:n_items].reshape(blocks, steps, items).argmax(axis=-1)
    choice = np.stack(np.divmod(chosen, rates), axis=-1)
    return evaluate(problem, choice, bound=float(result.mip_dual_bound) * largest)

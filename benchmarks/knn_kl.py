"""The nearest-neighbour divergence against scipy's cKDTree and, where installed, scikit-learn's brute force.

    python benchmarks/knn_kl.py

Two samples of 20000 points each, independent normal or in clusters as tokens are; every side does the same two
searches with the same number of threads and must find the same value. On the CPU. Writes
`benchmarks/results/knn_kl.json`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from rich.progress import track
from scipy.spatial import cKDTree
from timing import Row, compare, parse_arguments, report, time_interleaved

from tuner.profile.kl import knn_divergence

DIMS = (64, 128)
KINDS = ("normal", "clustered")
POINTS, QUICK_POINTS = 20_000, 1000
CLUSTERS = 500
TREE_TARGET = 1 / 5
BRUTE_TARGET = 1.0
AGREEMENT = 1e-3  # relative; ours computes in float32


def draw(kind: str, points: int, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Samples x and y, float32 (points, dim); y is spread 1.2 times as far."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(points, dim)), 1.2 * rng.normal(size=(points, dim))
    if kind == "clustered":
        centres = 3 * rng.normal(size=(CLUSTERS, dim))
        x, y = x + centres[rng.integers(0, CLUSTERS, points)], y + centres[rng.integers(0, CLUSTERS, points)]
    return x.astype(np.float32), y.astype(np.float32)


def divergence(inner: np.ndarray, outer: np.ndarray, dim: int) -> float:
    """Equation 2 from the distances of x to its neighbours in x (itself excluded) and in y."""
    points = len(inner)
    return float(dim * np.log(outer / inner).mean() + np.log(points / (points - 1)))


def ours(x: np.ndarray, y: np.ndarray) -> float:
    nobody = torch.full((1, len(x)), -1)
    return knn_divergence(torch.from_numpy(x)[None], torch.from_numpy(y)[None], nobody).value


def by_tree(x: np.ndarray, y: np.ndarray) -> float:
    threads = torch.get_num_threads()
    inner = cKDTree(x).query(x, k=2, workers=threads)[0][:, 1]
    outer = cKDTree(y).query(x, k=1, workers=threads)[0]
    return divergence(inner, outer, x.shape[1])


def by_sklearn() -> Callable[[np.ndarray, np.ndarray], float] | None:
    """scikit-learn's brute force, where it is installed."""
    try:
        from sklearn.neighbors import NearestNeighbors
        from threadpoolctl import threadpool_limits
    except ImportError:
        return None

    def brute(x: np.ndarray, y: np.ndarray) -> float:
        with threadpool_limits(torch.get_num_threads()):
            inner = NearestNeighbors(algorithm="brute").fit(x).kneighbors(x, 2)[0][:, 1]
            outer = NearestNeighbors(algorithm="brute").fit(y).kneighbors(x, 1)[0][:, 0]
        return divergence(inner.astype(np.float64), outer.astype(np.float64), x.shape[1])

    return brute


def measure(kind: str, dim: int, points: int, rounds: int) -> list[Row]:
    """All rows of one sample; stops when the sides disagree."""
    x, y = draw(kind, points, dim)
    sides = {"ours": ours, "cKDTree": by_tree, "scikit-learn": by_sklearn()}
    found: dict[str, float] = {}

    def run(name: str, side: Callable[[np.ndarray, np.ndarray], float]) -> Callable[[], None]:
        def call() -> None:
            found[name] = side(x, y)

        return call

    times = time_interleaved({n: run(n, s) for n, s in sides.items() if s is not None}, rounds)
    for name, value in found.items():
        if abs(value - found["cKDTree"]) > AGREEMENT * abs(found["cKDTree"]):
            raise SystemExit(f"{name} finds {value}, cKDTree {found['cKDTree']}: the comparison would be void.")
    case = f"n {points}, d {dim}, {kind}"
    rows = [compare(case, times["ours"], "cKDTree", times["cKDTree"], TREE_TARGET)]
    if "scikit-learn" in times:
        rows.append(compare(case, times["ours"], "scikit-learn brute force", times["scikit-learn"], BRUTE_TARGET))
    return rows


def main() -> None:
    arguments = parse_arguments(__doc__, "knn_kl", rounds=2, cpu_only=True)
    points = QUICK_POINTS if arguments.quick else POINTS
    cases = [(kind, dim) for kind in KINDS for dim in DIMS]
    rows: list[Row] = []
    for kind, dim in track(cases, description="kNN KL"):
        rows += measure(kind, dim, points, arguments.rounds)
    notes = [] if by_sklearn() else ["scikit-learn is not installed and was not compared."]
    report(rows, arguments, notes)


if __name__ == "__main__":
    main()

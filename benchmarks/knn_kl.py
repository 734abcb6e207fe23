"""The nearest-neighbour divergences against scipy's cKDTree and, where installed, scikit-learn's brute force.

    python benchmarks/knn_kl.py

20000 tokens, independent normal or in clusters as tokens are, half of them kept; every side searches the nearest other
token among all and among the kept ones for every token, with the same number of threads, and must find the same
divergences in both directions. On the CPU. Writes `benchmarks/results/knn_kl.json`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from rich.progress import track
from scipy.spatial import cKDTree
from timing import Row, compare, parse_arguments, report, time_interleaved

from tuner.profile.kl import kept_divergences

DIMS = (64, 128)
KINDS = ("normal", "clustered")
POINTS, QUICK_POINTS = 20_000, 1000
CLUSTERS = 500
TREE_TARGET = 1 / 5
BRUTE_TARGET = 1.0
AGREEMENT = 1e-3  # relative; ours computes in float32

Search = Callable[[np.ndarray, np.ndarray], np.ndarray]


def draw(kind: str, points: int, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Tokens, float32 (points, dim), and which half is kept, (points,) bool."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(points, dim))
    if kind == "clustered":
        x += 3 * rng.normal(size=(CLUSTERS, dim))[rng.integers(0, CLUSTERS, points)]
    return x.astype(np.float32), rng.permutation(points) < points // 2


def ours(x: np.ndarray, kept: np.ndarray) -> tuple[float, float]:
    tokens, index = torch.from_numpy(x)[None, None], torch.from_numpy(np.flatnonzero(kept))[None, None]
    [(there, back)] = kept_divergences(tokens, [index])
    return there.value, back.value


def from_neighbours(search: Search, x: np.ndarray, kept: np.ndarray) -> tuple[float, float]:
    """Equation 2 in both directions; search(points, x) finds the two nearest of some points for every x."""
    whole, part = search(x, x)[:, 1].astype(np.float64), search(x[kept], x).astype(np.float64)
    nearest = np.where(kept, part[:, 1], part[:, 0])  # a kept token finds itself first
    gain, n, size = x.shape[1] * np.log(nearest / whole), len(x), int(kept.sum())
    return float(np.log((n - 1) / (size - 1)) - gain[kept].mean()), float(
        (gain + np.log((size - kept) / (n - 1))).mean()
    )


def tree_search(points: np.ndarray, x: np.ndarray) -> np.ndarray:
    return cKDTree(points).query(x, k=2, workers=torch.get_num_threads())[0]


def sklearn_search() -> Search | None:
    """scikit-learn's brute force, where it is installed."""
    try:
        from sklearn.neighbors import NearestNeighbors
        from threadpoolctl import threadpool_limits
    except ImportError:
        return None

    def search(points: np.ndarray, x: np.ndarray) -> np.ndarray:
        with threadpool_limits(torch.get_num_threads()):
            return NearestNeighbors(algorithm="brute").fit(points).kneighbors(x, 2)[0]

    return search


def measure(kind: str, dim: int, points: int, rounds: int) -> list[Row]:
    """All rows of one sample; stops when the sides disagree."""
    x, kept = draw(kind, points, dim)
    sides: dict[str, Callable[[np.ndarray, np.ndarray], tuple[float, float]]] = {
        "ours": ours,
        "cKDTree": partial(from_neighbours, tree_search),
    }
    if brute := sklearn_search():
        sides["scikit-learn"] = partial(from_neighbours, brute)
    found: dict[str, tuple[float, float]] = {}

    def run(name: str) -> Callable[[], None]:
        def call() -> None:
            found[name] = sides[name](x, kept)

        return call

    times = time_interleaved({name: run(name) for name in sides}, rounds)
    for name, values in found.items():
        if not np.allclose(values, found["cKDTree"], rtol=AGREEMENT):
            raise SystemExit(f"{name} finds {values}, cKDTree {found['cKDTree']}: the comparison would be void.")
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
    notes = [] if sklearn_search() else ["scikit-learn is not installed and was not compared."]
    report(rows, arguments, notes)


if __name__ == "__main__":
    main()

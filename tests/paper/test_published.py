"""Published similarity tables: solved by operations, without the command line's files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from tuner.errors import UsageError
from tuner.paper.architectures import ARCHITECTURES
from tuner.paper.published import proxy_error, solve_table, total_flops

MODEL = "fastvideo-hunyuan"


@pytest.fixture
def similarity(tmp_path: Path) -> Path:
    architecture = ARCHITECTURES[MODEL]
    shape = len(architecture.blocks), architecture.steps
    rng = np.random.default_rng(0)
    save_file({name: rng.integers(architecture.tiers, size=shape) for name in "hqkv"}, tmp_path / "s.safetensors")
    return tmp_path / "s.safetensors"


def test_targets_are_met_by_exact_operations_and_more_costs_more(similarity: Path, tmp_path: Path) -> None:
    published = solve_table(similarity, MODEL, [1.1, 1.3, 90.0])
    solver = published.solver
    assert published.found[90.0] is None
    assert 1.3 < solver.best_attainable < 90
    errors = []
    for target in (1.1, 1.3):
        found = published.found[target]
        assert found is not None
        assert solver.baseline / total_flops(solver.architecture, found.schedule) == found.ratio >= target
        assert found.error == proxy_error(found.schedule, solver.similarity)
        assert found.bound <= found.error
        errors.append(found.error)
    assert 0 < errors[0] < errors[1]
    assert [path.name for path in tmp_path.iterdir()] == ["s.safetensors"]


def test_models_outside_the_paper_are_refused(similarity: Path) -> None:
    with pytest.raises(UsageError, match="cogvideox-2b"):
        solve_table(similarity, "sora", [1.1])

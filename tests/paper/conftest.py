from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.search.conftest import model, profile, space, surface  # noqa: F401  (fixtures of the baselines)


@pytest.fixture(scope="session")
def reference() -> Path:
    """Folder of the paper's tables in machine-readable form; it is no part of the repository."""
    beside = Path(__file__).parents[2].parent / "shared" / "reference"
    folder = Path(os.environ.get("ASYMRNR_REFERENCE", beside))
    if not (folder / "paper_tables.json").is_file():
        pytest.skip("the paper's tables are not here; set ASYMRNR_REFERENCE")
    return folder

"""How tests are shared out when several processes run them: `pytest -n 2 --dist loadgroup`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

FOLDERS = ("pipeline", "work")  # whose files share what takes long to make
if "PYTEST_XDIST_WORKER" in os.environ:  # one thread each, said before anything imports torch
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("MKL_NUM_THREADS", "1")


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files stay together, because of what their fixtures make, and so do some folders."""
    for item in items:
        file = item.path.relative_to(Path(__file__).parent)
        item.add_marker(pytest.mark.xdist_group(file.parts[0] if file.parts[0] in FOLDERS else str(file)))

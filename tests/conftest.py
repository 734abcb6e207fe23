"""Where several processes run the tests (`pytest -n 2 --dist loadfile`), each has one thread."""

from __future__ import annotations

import os

if "PYTEST_XDIST_WORKER" in os.environ:  # said before anything imports torch
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("MKL_NUM_THREADS", "1")

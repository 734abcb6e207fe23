from __future__ import annotations

import functools
from collections.abc import Iterator

import pytest
from diffusers import DiffusionPipeline

from tests.pipelines.helpers import left_as_found
from tests.pipelines.tiny_pipelines import BUILDERS, build, tiny_entry
from tuner.run.runner import Runner

_built = functools.cache(build)


@pytest.fixture(params=[name for name in BUILDERS if name != "fastvideo-hunyuan"])  # a HunyuanVideo
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def pipe(name: str) -> Iterator[DiffusionPipeline]:
    """Shared by all tests, each of which leaves it as found; the one that does not fails, and the next gets another."""
    shared = _built(name)
    try:
        with left_as_found(shared):
            yield shared
    except AssertionError:
        _built.cache_clear()
        raise


@pytest.fixture
def runner(name: str, pipe: DiffusionPipeline) -> Runner:
    return Runner(pipe, tiny_entry(name))

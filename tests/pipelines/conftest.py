from __future__ import annotations

import functools

import pytest
from diffusers import DiffusionPipeline

from tests.pipelines.tiny_pipelines import BUILDERS, build, tiny_entry
from tuner.run.runner import Runner

_built = functools.cache(build)  # tests leave pipelines as they found them


@pytest.fixture(params=[name for name in BUILDERS if name != "fastvideo-hunyuan"])  # a HunyuanVideo
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def pipe(name: str) -> DiffusionPipeline:
    return _built(name)


@pytest.fixture
def runner(name: str, pipe: DiffusionPipeline) -> Runner:
    return Runner(pipe, tiny_entry(name))

"""Compiled models: one graph whatever is reduced, the same output as eager."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

import asymrnr
from asymrnr import Schedule
from asymrnr.adapters import find_adapter
from asymrnr.install import find_sites
from tests.runtime.test_models import SITES
from tests.runtime.tiny import DENOISERS, RELATIVES, animatediff, build, run

TIMES = (900.0, 800.0, 700.0)


def cases() -> list[Any]:
    """Every architecture's graphs are captured in any case; what takes long, and code that is generated, on demand."""
    found = []
    for denoiser, regional, backend in product([*DENOISERS, *RELATIVES], (False, True), ("eager", "inductor")):
        long = backend == "inductor" or (not regional and denoiser in (animatediff, *RELATIVES))
        name = f"{denoiser.__name__}-{'blocks' if regional else 'whole'}-{backend}"
        found.append(pytest.param(denoiser, regional, backend, id=name, marks=[pytest.mark.slow] if long else []))
    return found


@pytest.mark.parametrize(("denoiser", "regional", "backend"), cases())
def test_equals_eager_without_graph_breaks_or_recompilation(denoiser: Any, regional: bool, backend: str) -> None:
    torch._dynamo.reset()
    model, inputs = build(denoiser)
    baseline, sites = run(model, inputs), SITES[denoiser.__name__]
    rates = {"Q": np.array([[0.5, 0.3, 0.0]] * sites), "V": np.array([[0.0, 0.4, 0.2]] * sites)}
    with asymrnr.apply(model, Schedule(rates=rates)):
        eager = [run(model, inputs, t) for t in TIMES]

    def compile_all(compiler: Any) -> Any:
        if not regional:
            return torch.compile(model, fullgraph=True, backend=compiler)
        attentions = set(find_sites(model, find_adapter(model)))
        for block in model.modules():
            if not attentions.isdisjoint(block.children()):
                block.compile(fullgraph=True, backend=compiler)
        return model

    counter = CompileCounterWithBackend(backend)
    compiled = compile_all(counter)
    with asymrnr.apply(compiled, Schedule(rates=rates)) as handle:
        outputs = [run(compiled, inputs, t) for t in TIMES]
        assert handle.summary().reduced["Q"].sum() == 2 * sites
    reduced_graphs = counter.frame_count
    for output, want in zip([*outputs, run(compiled, inputs)], [*eager, baseline], strict=True):
        torch.testing.assert_close(output, want, rtol=1e-4, atol=1e-5)

    torch._dynamo.reset()
    plain_counter = CompileCounterWithBackend("eager")
    plain = compile_all(plain_counter)
    for t in TIMES:
        run(plain, inputs, t)
    assert reduced_graphs == plain_counter.frame_count

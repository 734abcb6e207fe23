"""Compiled models: one graph whatever is reduced, the same output as eager."""

from __future__ import annotations

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
from tests.runtime.tiny import allegro, animatediff, build, cogvideox, hunyuan, ltx, mochi, run, wan

TIMES = (900.0, 800.0, 700.0)
SLOW = [
    pytest.param(denoiser, marks=pytest.mark.slow, id=denoiser.__name__)
    for denoiser in (mochi, hunyuan, ltx, allegro, animatediff)
]


@pytest.mark.parametrize("regional", [False, True], ids=["whole", "blocks"])
@pytest.mark.parametrize("denoiser", [cogvideox, wan, *SLOW], ids=lambda f: f.__name__)
def test_equals_eager_without_graph_breaks_or_recompilation(denoiser: Any, regional: bool) -> None:
    torch._dynamo.reset()
    model, inputs = build(denoiser)
    baseline, sites = run(model, inputs), SITES[denoiser.__name__]
    rates = {"Q": np.array([[0.5, 0.3, 0.0]] * sites), "V": np.array([[0.0, 0.4, 0.2]] * sites)}
    with asymrnr.apply(model, Schedule(rates=rates)):
        eager = [run(model, inputs, t) for t in TIMES]

    def compile_all(backend: Any) -> Any:
        if not regional:
            return torch.compile(model, fullgraph=True, backend=backend)
        attentions = set(find_sites(model, find_adapter(model)))
        for block in model.modules():
            if not attentions.isdisjoint(block.children()):
                block.compile(fullgraph=True, backend=backend)
        return model

    counter = CompileCounterWithBackend("aot_eager")
    compiled = compile_all(counter)
    with asymrnr.apply(compiled, Schedule(rates=rates)) as handle:
        outputs = [run(compiled, inputs, t) for t in TIMES]
        assert handle.summary().reduced["Q"].sum() == 2 * sites
    reduced_graphs = counter.frame_count
    for output, want in zip([*outputs, run(compiled, inputs)], [*eager, baseline], strict=True):
        torch.testing.assert_close(output, want, rtol=1e-4, atol=1e-5)

    torch._dynamo.reset()
    plain_counter = CompileCounterWithBackend("aot_eager")
    plain = compile_all(plain_counter)
    for t in TIMES:
        run(plain, inputs, t)
    assert reduced_graphs == plain_counter.frame_count

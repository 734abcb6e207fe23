"""What is kept from step to step is what the summary says, by allocations."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

import asymrnr
from asymrnr import Action, Schedule
from tests.runtime.test_models import SITES
from tests.runtime.tiny import DENOISERS, Inputs, build, run
from tuner.run.allocations import allocations

TIMES = (900.0, 800.0, 700.0)


def copying(sites: int) -> Schedule:
    return Schedule(rates={"Q": np.full((sites, 3), 0.5), "V": np.full((sites, 3), 0.3)}, cache_step=3)


def remembering(sites: int) -> Schedule:
    actions = np.tile([Action.REFRESH, Action.MEMORY, Action.BROADCAST], (sites, 1))
    return Schedule(rates={"Q": np.where(actions == Action.MEMORY, 0.5, 0.0)}, actions=actions)


@pytest.mark.parametrize("made_of", [copying, remembering])
@pytest.mark.parametrize("denoiser", DENOISERS, ids=lambda f: f.__name__)
def test_as_much_is_kept_as_the_summary_says(
    denoiser: Callable[[], tuple[nn.Module, Inputs]], made_of: Callable[[int], Schedule]
) -> None:
    model, inputs = build(denoiser)
    run(model, inputs)
    with asymrnr.apply(model, made_of(SITES[denoiser.__name__])) as handle, torch.no_grad():
        with allocations() as found:
            output = run(model, inputs, TIMES[0])
        said = handle.summary().memory_bytes
        assert said > 0
        assert found.kept - output.untyped_storage().nbytes() == said
        for time in TIMES[1:]:
            run(model, inputs, time)
        assert handle.summary().memory_bytes == said

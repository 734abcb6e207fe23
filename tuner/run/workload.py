"""What was run, in the words of an artifact's sections; compared when an artifact is used or checked elsewhere."""

from __future__ import annotations

from typing import Any

from tuner.models import attention_backend_of
from tuner.run.runner import Runner


def describe_workload(runner: Runner) -> dict[str, Any]:
    """Entries of an artifact's `WorkloadSection`: sizes, steps, guidance, sampler, data type, attention backend."""
    return {
        **runner.entry.workload.as_dict(),
        "scheduler": type(runner.pipe.scheduler).__name__,
        "dtype": str(runner.denoiser.dtype).removeprefix("torch."),
        "attention_backend": attention_backend_of(runner.pipe),
    }

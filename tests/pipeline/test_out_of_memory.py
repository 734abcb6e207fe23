"""A run whose memory runs out: one sentence with the option that helps, and nothing measured is lost."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.pipeline.conftest import SilentProgress
from tuner.context import Context, TuneOptions
from tuner.errors import TunerError
from tuner.out_of_memory import advice
from tuner.pipeline import tune
from tuner.run.store import MeasurementStore

OF_THE_CPU = "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: 17 GB"


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), "add --offload model, "),
        (MemoryError(), "main memory of this machine is used up; .*--memory"),
        (RuntimeError(OF_THE_CPU), "main memory of this machine is used up; .*--frames"),
    ],
    ids=["device", "python", "torch"],
)
def test_what_was_measured_is_kept(
    error: Exception, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measures_and_fails(ctx: Context) -> None:
        ctx.instrument.store.put(ctx.instrument.key("before"), {"seconds": 1.0})
        raise error

    monkeypatch.setattr("tuner.pipeline.preflight", measures_and_fails)
    with pytest.raises(TunerError, match=says) as raised:
        tune(TuneOptions(model="tiny-cogvideox", output=tmp_path, target_speedup=1.2), SilentProgress())
    assert raised.value.__cause__ is error
    assert "everything measured is kept, add --resume" in str(raised.value)
    assert "before" in {record.key["kind"] for record in MeasurementStore(tmp_path, read_only=True)}
    assert (tmp_path / "report.html").is_file()


def test_what_is_offloaded_already_is_not_advised_to_be() -> None:
    said = advice(torch.OutOfMemoryError("CUDA out of memory"), "model")
    assert said is not None
    assert "--offload" not in said
    assert advice(RuntimeError("mat1 and mat2 shapes cannot be multiplied")) is None
    assert advice(ValueError("not enough memory")) is None

"""Keeps what was observed of a generation after every step, so that an interrupted one goes on where it was."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import safetensors
import safetensors.numpy
import safetensors.torch
import torch
from diffusers.models.modeling_outputs import Transformer2DModelOutput
from torch import nn

from asymrnr.durable import write_durably
from asymrnr.install import replace_forward
from tuner.profile.observed import Observed

STATE_NAME = "observed.safetensors"
Outputs = list[list[torch.Tensor]]
"""What every call of the denoiser gave, by denoising step."""


class Checkpoint:
    """A folder that holds the outputs of every finished step, and what was observed up to it.

    Attributes:
        folder: where; removed when the profile is made.
        name: of what is profiled; what was kept of something else is thrown away.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name

    def load(self) -> tuple[Observed, Outputs]:
        """What is kept; nothing where there is none, it is of something else, or it is damaged."""
        try:
            with safetensors.safe_open(self.folder / STATE_NAME, "numpy") as file:
                values = json.loads(file.metadata()["values"])
                arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  (no mapping)
            if values["name"] == self.name:
                observed = Observed.from_arrays(values, arrays)
                return observed, [self._outputs(step) for step in range(values["steps"])]
        except (OSError, ValueError, KeyError, TypeError, safetensors.SafetensorError):
            pass
        return Observed(), []

    def keep(self, observed: Observed, outputs: Sequence[torch.Tensor], step: int) -> None:
        """Write down what was observed up to a step that has ended, and what the denoiser gave in it.

        A disk that is full loses what is kept here, and nothing else.
        """
        values, arrays = observed.to_arrays()
        values |= {"name": self.name, "steps": step + 1}
        with suppress(OSError, safetensors.SafetensorError):
            self.folder.mkdir(parents=True, exist_ok=True)
            tensors = {str(index): output.cpu().contiguous() for index, output in enumerate(outputs)}
            write_durably(self._path(step), safetensors.torch.save(tensors))
            write_durably(self.folder / STATE_NAME, safetensors.numpy.save(arrays, {"values": json.dumps(values)}))

    def remove(self) -> None:
        """Throw away what is kept."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, step: int) -> Path:
        return self.folder / f"outputs-{step}.safetensors"

    def _outputs(self, step: int) -> list[torch.Tensor]:
        found = safetensors.torch.load_file(self._path(step))
        return [found[str(index)] for index in range(len(found))]


@contextmanager
def replayed(models: Sequence[nn.Module], outputs: Outputs) -> Iterator[None]:
    """Denoisers give, call by call, what they gave before; when that is used up, they compute again."""
    left = [output for calls in outputs for output in calls][::-1]
    if not left:
        yield
        return

    def instead(model: nn.Module, forward: Callable[..., Any]) -> Callable[..., Any]:
        def again(*args: Any, **kwargs: Any) -> Any:
            if not left:
                return forward(*args, **kwargs)
            output = left.pop().to(next(model.parameters()).device)
            return Transformer2DModelOutput(sample=output) if kwargs.get("return_dict", True) else (output,)

        return again

    with ExitStack() as stack:
        for model in models:
            stack.callback(replace_forward(model, partial(instead, model)))
        yield

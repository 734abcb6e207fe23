"""Signs of life: when a worker last got on with what it makes."""

from __future__ import annotations

import time

from tuner.run.runner import Runner


class Signs:
    """Notes the time of every call of a denoiser; a process that merely still exists gives no sign."""

    def __init__(self) -> None:
        self._last: float | None = None

    def watch(self, runner: Runner) -> None:
        """Every call of a model's denoisers is a sign from now on; those of its twin, which copies hooks, as well."""
        for model in runner.denoisers:
            model.register_forward_pre_hook(self._called)

    def begin(self) -> None:
        """Work begins."""
        self._last = time.monotonic()

    def end(self) -> None:
        """Work ends; nothing is expected any more."""
        self._last = None

    @property
    def silent_for(self) -> float:
        """Seconds since the last sign; 0 while there is no work."""
        last = self._last
        return 0.0 if last is None else time.monotonic() - last

    def _called(self, module: object, inputs: object) -> None:
        self.begin()

"""What a schedule was made for, and whether a generation is of that kind."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn

from asymrnr.adapters import patch_of
from asymrnr.artifact import Artifact, tune_command
from asymrnr.errors import ScheduleError
from asymrnr.partition import Grid
from asymrnr.schedule import Schedule

# How diffusers' pipelines call what their decoder makes of one latent; those without the first keep all frames apart.
_TEMPORAL = ("vae_scale_factor_temporal", "vae_temporal_scale_factor", "vae_temporal_compression_ratio")
_SPATIAL = ("vae_scale_factor_spatial", "vae_spatial_scale_factor", "vae_spatial_compression_ratio", "vae_scale_factor")


class OtherWorkload(UserWarning):
    """A generation has another number of steps, or another size, than the schedule was made for."""


@dataclass(frozen=True)
class Token:
    """What one token of the denoiser covers of the video.

    Attributes:
        frames: of the video that one of the latents stands for; None where it is not known.
        pixels: of the video's sides, likewise.
        patch: latents (frames, height, width) in a token.
    """

    frames: int | None
    pixels: int | None
    patch: Grid

    @classmethod
    def of(cls, pipe: Any, denoiser: nn.Module) -> Token:
        """As a pipeline's decoder and its denoiser have it; of a denoiser alone nothing is known."""
        frames, pixels = (
            next((getattr(pipe, name) for name in names if hasattr(pipe, name)), None)
            for names in (_TEMPORAL, _SPATIAL)
        )
        return cls(frames, pixels, patch_of(denoiser))


@dataclass(frozen=True)
class Envelope:
    """What a schedule was made for.

    Attributes:
        steps: denoising steps; None where any number will do.
        artifact: what the schedule comes from; None for one by itself, of which only the steps are known.
        token: tells a video's size from the token grid.
        refuses: a generation of another kind is an error, not a warning.
        guided: whether the running generation is guided (scale above 1); None where that is not known.
    """

    steps: int | None
    artifact: Artifact | None
    token: Token
    refuses: bool = False
    guided: Callable[[], bool | None] = lambda: None

    @classmethod
    def of(
        cls, schedule: Schedule, artifact: Artifact | None, token: Token, refuses: bool = False, pipe: Any = None
    ) -> Envelope:
        """Of a schedule, for a pipeline; one with a single column holds for any number of steps."""
        steps = None if schedule.steps == 1 else schedule.steps
        return cls(steps, artifact, token, refuses, partial(_guided, pipe))

    def warn_outside(self, steps: int | None, grid: Grid) -> bool:
        """Warn of a generation that is of another kind.

        Args:
            steps: of the generation; None where they are not known.
            grid: its token grid.

        Returns:
            Whether it is.

        Raises:
            ScheduleError: it is, and that is refused.
        """
        made: list[str] = []
        here: list[str] = []
        ask: list[str] = []

        def differs(was: str, now: str, *options: str) -> None:
            made.append(was)
            here.append(now)
            ask.extend(options)

        if self.artifact is not None:
            workload, token = self.artifact.workload, self.token
            if token.frames is not None and grid[0] != -(
                -((workload.frames - 1) // token.frames + 1) // token.patch[0]
            ):
                frames = (grid[0] * token.patch[0] - 1) * token.frames + 1
                differs(f"{workload.frames} frames", f"{frames} frames", f"--frames {frames}")
            if token.pixels is not None:
                height, width = (tokens * token.pixels * p for tokens, p in zip(grid[1:], token.patch[1:], strict=True))
                if (height, width) != (workload.height, workload.width):
                    was, now = f"{workload.height}x{workload.width} pixels", f"{height}x{width} pixels"
                    differs(was, now, f"--height {height} --width {width}")
            guided = _above_one(workload.guidance_scale), self.guided()
            if None not in guided and guided[0] != guided[1]:
                differs(*("guidance" if one else "no guidance" for one in guided))
        if None not in (steps, self.steps) and steps != self.steps:
            differs(f"{self.steps} steps", f"{steps} steps", f"--steps {steps}")
        if made:
            said = (
                f"The schedule was {'certified' if self._certified else 'made'} for {' and '.join(made)}, but this "
                f"generation has {' and '.join(here)}, for which nothing is promised; "
                f"`{tune_command(self.artifact, *ask)}` tunes one."
            )
            if self.refuses:
                raise ScheduleError(said)
            warnings.warn(said, OtherWorkload, stacklevel=2)
        return bool(made)

    @property
    def _certified(self) -> bool:
        return self.artifact is not None and self.artifact.certified


def _guided(pipe: Any) -> bool | None:
    """As a pipeline says of its running generation; some have no such scale."""
    return _above_one(getattr(pipe, "guidance_scale", None))


def _above_one(scale: Any) -> bool | None:
    return scale > 1 if isinstance(scale, int | float) else None

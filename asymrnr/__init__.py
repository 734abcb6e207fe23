"""Asymmetric reduction and restoration of self-attention in video diffusion transformers."""

from asymrnr.apply import Handle, Summary, apply, observe
from asymrnr.engine import AttentionCall
from asymrnr.errors import ArtifactError, AsymRnRError, InterceptionError, ScheduleError
from asymrnr.partition import window_seed
from asymrnr.schedule import Schedule
from asymrnr.shipped import load

__all__ = [
    "ArtifactError",
    "AsymRnRError",
    "AttentionCall",
    "Handle",
    "InterceptionError",
    "Schedule",
    "ScheduleError",
    "Summary",
    "apply",
    "load",
    "observe",
    "window_seed",
]

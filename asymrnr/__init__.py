"""AsymRnR: reduce and restore attention inside diffusers video models."""

from __future__ import annotations

from asymrnr.actions import Action
from asymrnr.adapters import ModelAdapter, register_adapter
from asymrnr.apply import Handle, apply, observe
from asymrnr.errors import ArtifactError, AsymRnRError, InterceptionError, ScheduleError
from asymrnr.observation import AttentionCall
from asymrnr.partition import window_seed
from asymrnr.partner import Partner
from asymrnr.schedule import Schedule
from asymrnr.shipped import load
from asymrnr.summary import Summary

__all__ = [
    "Action",
    "ArtifactError",
    "AsymRnRError",
    "AttentionCall",
    "Handle",
    "InterceptionError",
    "ModelAdapter",
    "Partner",
    "Schedule",
    "ScheduleError",
    "Summary",
    "apply",
    "load",
    "observe",
    "register_adapter",
    "window_seed",
]

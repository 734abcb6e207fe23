"""AsymRnR: reduce and restore attention inside diffusers video models."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from asymrnr.actions import Action
from asymrnr.adapters import ModelAdapter, register_adapter
from asymrnr.apply import Handle, applied, apply, observe, remove
from asymrnr.artifact import Artifact
from asymrnr.artifact_io import load_artifact, save_artifact
from asymrnr.candidates import Candidate, candidates
from asymrnr.envelope import OtherWorkload
from asymrnr.errors import ArtifactError, AsymRnRError, InterceptionError, ScheduleError
from asymrnr.fit import NotCertified
from asymrnr.hub import from_pretrained
from asymrnr.hub_push import push_to_hub
from asymrnr.lock import lock
from asymrnr.observation import AttentionCall
from asymrnr.partition import window_seed
from asymrnr.partner import Partner
from asymrnr.schedule import Schedule
from asymrnr.schedule_io import artifact_of as _artifact_of  # noqa: F401  (attaches methods to Schedule)
from asymrnr.shipped import NoneFits, load
from asymrnr.summary import Summary
from asymrnr.uniform import UniformSchedule

try:
    __version__ = version("asymrnr")
except PackageNotFoundError:  # a checkout that is not installed
    __version__ = "0+unknown"

__all__ = [
    "Action",
    "Artifact",
    "ArtifactError",
    "AsymRnRError",
    "AttentionCall",
    "Candidate",
    "Handle",
    "InterceptionError",
    "ModelAdapter",
    "NoneFits",
    "NotCertified",
    "OtherWorkload",
    "Partner",
    "Schedule",
    "ScheduleError",
    "Summary",
    "UniformSchedule",
    "__version__",
    "applied",
    "apply",
    "candidates",
    "from_pretrained",
    "load",
    "load_artifact",
    "lock",
    "observe",
    "push_to_hub",
    "register_adapter",
    "remove",
    "save_artifact",
    "window_seed",
]

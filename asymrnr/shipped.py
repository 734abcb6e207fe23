"""Loads schedules by name: a model's, a file's, a run's or a repository's."""

from __future__ import annotations

import logging
import re
import warnings
from pathlib import Path
from typing import Any

from asymrnr.artifact import Artifact, tune_command
from asymrnr.candidates import Candidate, candidates
from asymrnr.errors import ArtifactError
from asymrnr.find import find
from asymrnr.fit import NotCertified
from asymrnr.install import base_model
from asymrnr.lock import load_locked
from asymrnr.schedule import Schedule
from asymrnr.target import denoisers, sites
from asymrnr.uniform import UniformSchedule

SHOWN = 4  # rejected candidates that a warning names

_NUMBER = re.compile(r"(\d+(?:\.\d+)?)x?")
_log = logging.getLogger("asymrnr")


class NoneFits(UserWarning):
    """No schedule fits what it was asked for, so that nothing is reduced."""


def load(
    name_or_path: str | Path,
    profile: str | float | None = None,
    *,
    speedup: float | None = None,
    lock: str | Path | None = None,
    for_: Any = None,
    steps: int | None = None,
    frames: int | None = None,
    height: int | None = None,
    width: int | None = None,
) -> Schedule:
    """The schedule of a shipped profile, of an artifact file, of a run or of a repository on the hub.

    Args:
        name_or_path: name of a model that has shipped profiles ("tiny-cogvideox"), a file (a Path, or a string that
            ends in ".json"), the folder of a run, or a repository ("owner/name", or "owner/name@2" for a version).
        profile: which of the model's profiles, for example "8-steps"; without it the first certified one in the order
            of their names, or else the first. A number (1.3, "1.3x") is a `speedup`.
        speedup: denoising speed-up wanted: the slowest schedule that was made for at least that; without it the one
            that the profile was tuned for.
        lock: a lock file (`asymrnr-tune lock`) that names the repository: it is then loaded without a network.
        for_: a diffusers pipeline or denoiser: of all profiles or versions the first that `asymrnr.candidates` accepts
            for it, or where it accepts none a schedule that reduces nothing.
        steps: denoising steps to generate with the pipeline `for_`; None where it does not matter.
        frames: of the video to generate; None where it does not matter.
        height: of the video, in pixels; None where it does not matter.
        width: of the video, in pixels; None where it does not matter.

    Raises:
        ArtifactError: there is none, with what there is; or the file is damaged; or the arguments do not go together.
        InterceptionError: the model of `for_` is unknown.

    Warns:
        NotCertified: it was predicted, or measured and refused, and not asked for by name; or its certificate does not
            cover the pipeline.
        NoneFits: no schedule fits the pipeline, with the reasons and the command that makes one.
    """
    workload = {"steps": steps, "frames": frames, "height": height, "width": width}
    if for_ is None:
        given = [name for name, value in workload.items() if value is not None]
        if given:
            raise ArtifactError(f"{given[0]} says what a pipeline is to generate; give the pipeline, too (for_=pipe).")
        return load_shipped(name_or_path, profile, speedup=speedup, lock=lock).schedule_object()
    profile, speedup = _profile_or_speedup(profile, speedup)
    if profile is not None:
        raise ArtifactError(f"With a pipeline (for_) the profile is found; leave '{profile}' out.")
    found = candidates(name_or_path, for_, speedup=speedup, lock=lock, **workload)
    for candidate in found:
        _log.info("%s", candidate)
    if found[0].accepted:
        if found[0].remarks:
            _warn_of(found[0])
        return found[0].artifact.schedule_object()
    _warn_none(found, for_, speedup, workload)
    return UniformSchedule().for_blocks(len(sites(for_)[0]))


def load_shipped(
    name_or_path: str | Path,
    profile: str | float | None = None,
    *,
    speedup: float | None = None,
    lock: str | Path | None = None,
) -> Artifact:
    """Like `load` without a pipeline, with everything the artifact says: evidence, workload, certificate."""
    profile, speedup = _profile_or_speedup(profile, speedup)
    artifact = load_locked(str(name_or_path), lock) if lock is not None else find(name_or_path, profile)
    if speedup is None:
        if profile is None and not artifact.certified:
            _warn(artifact, "the schedule")
        return artifact
    found = artifact.at(speedup)
    if not found.certified:
        _warn(found, f"the schedule for {found.target:g}x")
    return found


def _profile_or_speedup(profile: str | float | None, speedup: float | None) -> tuple[str | None, float | None]:
    """What a profile says: its name, or a number ("1.3", "1.3x") that is a speed-up.

    Raises:
        ArtifactError: two speed-ups are given.
    """
    number = None if profile is None else _NUMBER.fullmatch(str(profile))
    if number is None:
        return None if profile is None else str(profile), speedup
    if speedup is not None:
        raise ArtifactError(f"Two speed-ups are given, {profile} and {speedup:g}; leave one out.")
    return None, float(number[1])


def _warn(artifact: Artifact, what: str) -> None:
    command = tune_command(artifact, f"--steps {artifact.workload.steps}")
    warnings.warn(
        f"{what.capitalize()} of {artifact.model.repo} is {artifact.why_not_certified}; `{command}` certifies one.",
        NotCertified,
        stacklevel=4,
    )


def _warn_of(candidate: Candidate) -> None:
    warnings.warn(
        f"The schedule {candidate.name} {' and '.join(candidate.remarks)}, so it is not certified here; "
        "`asymrnr-tune certify` re-checks it.",
        NotCertified,
        stacklevel=3,
    )


def _warn_none(found: list[Candidate], for_: Any, speedup: float | None, workload: dict[str, int | None]) -> None:
    reasons = [str(candidate) for candidate in found[:SHOWN]]
    if len(found) > SHOWN:
        reasons.append(f"and {len(found) - SHOWN} more (asymrnr.candidates lists them)")
    options = [f"--{name} {value}" for name, value in workload.items() if value is not None]
    transformer = type(base_model(denoisers(for_)[0])).__name__
    same = (each.artifact for each in found if each.artifact.model.transformer == transformer)
    command = tune_command(next(same, None), *options, target=speedup)
    warnings.warn(
        f"No schedule fits this {type(for_).__name__}, so nothing is reduced: {'; '.join(reasons)}. "
        f"`{command}` makes one.",
        NoneFits,
        stacklevel=3,
    )

"""Goes through a finished run again from what it measured, and writes its report anew."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tuner.certify.health import with_health
from tuner.certify.proof import prove
from tuner.certify.verify import verify
from tuner.errors import UsageError
from tuner.latency.preflight import preflight
from tuner.profile.stage import profile_model
from tuner.report.run import write_report
from tuner.run.context import OPTIONS_KEY, Progress, TuneOptions, load_context
from tuner.run.store import LOG_NAME, MeasurementStore, Record


class FinishedMeasurements(MeasurementStore):
    """The measurements of a run that needs no more; asking for one that was never made is an error."""

    def get(self, key: Mapping[str, Any]) -> Record:
        """The record of this key.

        Raises:
            UsageError: it was never measured, so the run is not finished.
        """
        record = super().get(key)
        if record is None:
            raise UsageError(
                f"The run in {self.folder} is not finished; go on with it by adding --resume to its command."
            )
        return record


def report_of(folder: Path, progress: Progress) -> Path:
    """Write the report of a finished run again; the model is loaded, but nothing is generated.

    Args:
        folder: what the run was given as --output.
        progress: told the stages.

    Returns:
        The report's path.

    Raises:
        UsageError: the folder holds no run, or one that is not finished.
    """
    if not (folder / LOG_NAME).is_file():
        raise UsageError(f"{folder} holds no run; give the folder that a run was given as --output.")
    store = FinishedMeasurements(folder)
    options = replace(TuneOptions.from_dict(store.get(OPTIONS_KEY).values), output=folder)
    ctx = load_context(options, store, progress)
    early = preflight(ctx)
    profiled = profile_model(ctx, early.model)
    verification, certification = prove(ctx, profiled, verify(ctx, early, profiled))
    return write_report(ctx, profiled, verification, with_health(profiled, verification, certification))

"""Carries out a plan: one run after the other, each with all workers, none of them ending the others."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import torch

from asymrnr.errors import AsymRnRError
from tuner.context import Progress, TuneOptions
from tuner.errors import FleetError, TunerError
from tuner.fleet.page import write_page
from tuner.fleet.states import State, ended, read_summary, waiting, write_summary
from tuner.pipeline import tune


def carry_out(
    runs: Mapping[str, TuneOptions],
    folder: Path,
    show: Callable[[Mapping[str, State]], None],
    progress_of: Callable[[str], Progress],
) -> dict[str, State]:
    """Do every run that is not done; what was found is written down after each.

    Args:
        runs: options by name.
        folder: of the plan.
        show: told all states whenever one changes.
        progress_of: where a run shows what it is doing.

    Raises:
        FleetError: some runs have no certificate; everything is written down before.
    """
    before = read_summary(folder)
    states: dict[str, State] = {}
    for name, options in runs.items():
        state = waiting(name, options)
        known = before.get(name)
        states[name] = known if known is not None and known.asked == state.asked and known.final else state
    for name, options in runs.items():
        if states[name].final:
            show(states)
            continue
        states[name] = replace(states[name], state="running")
        _write(folder, states, show)
        states[name] = ended(states[name], options, *_run(options, progress_of(name)))
        _write(folder, states, show)
        gc.collect()  # the model of this run, before the next one's is loaded
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    failed = [state for state in states.values() if state.exit_code != 0]
    if failed:
        raise FleetError(
            f"{len(failed)} of {len(states)} runs have no certificate, the first one {failed[0].name} "
            f"({failed[0].message.rstrip('.')}); {folder / 'summary.json'} says all."
        )
    return states


def _run(options: TuneOptions, progress: Progress) -> tuple[int, str]:
    """Exit code and message of one run; an interruption ends all."""
    try:
        tune(options, progress)
    except TunerError as error:
        return error.exit_code, str(error)
    except AsymRnRError as error:
        return 2, str(error)
    except (RuntimeError, ValueError, TypeError, KeyError, AttributeError, ImportError, MemoryError) as error:
        return 1, f"{type(error).__name__}: {error}"
    return 0, ""


def _write(folder: Path, states: Mapping[str, State], show: Callable[[Mapping[str, State]], None]) -> None:
    write_summary(folder, states)
    write_page(folder, states)
    show(states)

"""Opens the folder of a run: to measure into it, to read what was measured, or one that is not kept."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from asymrnr.errors import ScheduleError
from asymrnr.partner import Partner
from tuner.context import (
    AUTO,
    BUDGET,
    COMPARE_IE,
    HOW,
    NO_PARTNER,
    Context,
    Keep,
    NoProgress,
    Progress,
    TuneOptions,
)
from tuner.errors import EnvironmentMismatchError, UsageError
from tuner.models import ModelEntry, load_pipeline
from tuner.models.images import hashes
from tuner.quality.lpips import Lpips
from tuner.run.checkout import CHECKOUT_KEY, checkout
from tuner.run.identity import ENVIRONMENT_KEY, differences, environment
from tuner.run.instrument import Instrument
from tuner.run.ledger import Ledger
from tuner.run.runner import Runner
from tuner.run.store import LOG_NAME, MeasurementStore
from tuner.search.space import SearchSpace, load_space_of
from tuner.work.cluster import require_extra
from tuner.work.leftovers import WORKERS, absorb, forget
from tuner.work.place import Place, here
from tuner.work.sharing import Sharing
from tuner.work.signs import Signs

OPTIONS_KEY = {"kind": "options"}
SUBJECT_KEY = {"kind": "subject"}
ANY_TARGET = 1.1
GIB, MEMORY_SHARE = 2**30, 0.25  # of a GPU's memory, for what is kept from step to step


def open_run(options: TuneOptions, progress: Progress) -> Context:
    """Check everything that can be checked before any work, then load the model; the folder is this run's from now on.

    Raises:
        UsageError: unknown model, impossible workload, target or budget, a folder that cannot be written or is taken.
        EnvironmentMismatchError: the folder's measurements were made on another machine or with other versions.
    """
    entry, ledger = options.model_entry(), ledger_of(options)
    for target in (options.target_speedup, *options.also):
        if not target > 1:
            raise UsageError(f"The target speed-up is {target:g}; ask for more than 1, for example 1.3.")
    if len({options.target_speedup, *options.also}) <= len(options.also):
        raise UsageError("A target speed-up is given twice; give every --also once.")
    if options.memory is not None and not options.memory > 0:
        raise UsageError(f"--memory is {options.memory:g} GiB; give more than 0.")
    partner = partner_of(options)
    if entry.starts_from is not None:  # refuses what is no picture or video before anything is loaded
        hashes(entry.files, entry.starts_from, entry.workload.frames)
    if options.lpips_weights is not None:
        Lpips(weights=options.lpips_weights)  # refuses a wrong file before anything is measured
    store = MeasurementStore(options.output)
    place: Place | None = None
    try:
        for warning in store.warnings:
            progress.stage("log", warning)
        if len(store) and not options.resume:
            raise UsageError(
                f"{options.output} already holds measurements; add --resume to go on from them, or choose another "
                "--output."
            )
        known = store.get(ENVIRONMENT_KEY)
        place = _place(options, entry, store, None if known is None else known.values, progress)
        if known is None:
            store.put(ENVIRONMENT_KEY, place.environment)
        found = place.subject
        if options.memory is None and place.gpu_bytes is not None:
            options = replace(options, memory=MEMORY_SHARE * place.gpu_bytes / GIB)
        options = replace(options, at_once=place.source.width)
        asked = store.get(OPTIONS_KEY)
        if asked is not None:  # a resumed run is still the one that was asked for
            options = replace(options, command=asked.values["command"], at_once=asked.values.get("at_once", 1))
        said = ((OPTIONS_KEY, options.to_dict()), (SUBJECT_KEY, found), (CHECKOUT_KEY, checkout()))
        for key, values in said:
            before = store.get(key)
            if before is None or before.values != values:
                store.put(key, values)
        instrument = Instrument(store, ledger, found, place.source)
        space = space_of(options, entry)
        return Context(options, entry, instrument, space, progress, partner, place.sharing, _studies(options, progress))
    except BaseException:
        if place is not None:
            place.source.close()
        store.close()
        raise


def close(ctx: Context) -> None:
    """Give back what a run holds: its workers, its database, and its folder."""
    store, source, sharing = ctx.instrument.store, ctx.instrument.source, ctx.sharing
    try:
        if source is not None:
            source.close()
        if sharing is not None:
            left = sharing.deliver(store)
            if left:
                lacks = f"it is away and lacks {left} measurements of {store.folder}; --resume delivers them"
                ctx.progress.stage("store", lacks)
            sharing.close()
        forget(ctx.options.output / WORKERS, store)
    finally:
        store.close()


def _place(
    options: TuneOptions, entry: ModelEntry, store: MeasurementStore, known: dict[str, Any] | None, progress: Progress
) -> Place:
    """Where to measure; what was measured before must have been measured on such a machine."""
    say, share = partial(progress.stage, "workers"), partial(_share, options)
    if options.store is not None:  # before anything is loaded
        require_extra("--store", "sqlalchemy", "psycopg")
        from tuner.work.database import psycopg_url

        psycopg_url(options.store)
    if options.workers is not None:
        from tuner.work.ray_crew import join  # comes with an extra

        say(options.workers)
        told = {**options.to_dict(), **{name: getattr(options, name) for name in HOW}}
        place = join(options.workers, options.device, options.output, told, known, options.lease, say)
        if options.store is not None:
            place = replace(place, sharing=share(place.environment, Signs()))
    else:
        at = environment()
        changed = [] if known is None else differences(known, at)
        if changed:
            raise EnvironmentMismatchError(
                f"{options.output} was measured elsewhere ({' '.join(changed)}); choose another --output."
            )
        progress.stage("load", entry.name)
        opened = None if options.store is None else partial(share, at)
        runner = Runner(load_pipeline(entry.name, options.device, options.load), entry)
        place = here(runner, store, at, options.output, opened)
    try:
        absorb(options.output / WORKERS, store, place.environment)
        if place.sharing is not None:
            place.sharing.deliver(store)  # what a database that was away did not get
    except BaseException:
        place.source.close()
        raise
    return place


def _studies(options: TuneOptions, progress: Progress) -> Keep | None:
    if options.store is None:
        return None
    from tuner.work.studies import keeper  # comes with an extra

    return keeper(options.store, options.output.name, partial(progress.stage, "store"))


def _share(options: TuneOptions, environment: dict[str, Any], signs: Signs) -> Sharing:
    assert options.store is not None
    from tuner.work.shared import Shared  # comes with an extra

    return Shared.open(options.store, environment, options.lease, signs)


def open_records(folder: Path) -> Context:
    """The tools of a run that only reads what was measured; no model is loaded.

    Raises:
        UsageError: the folder holds no run.
    """
    if not (folder / LOG_NAME).is_file():
        raise UsageError(f"{folder} holds no run; give the folder that a run was given as --output.")
    store = MeasurementStore(folder, read_only=True)
    records = [store.get(key) for key in (OPTIONS_KEY, SUBJECT_KEY)]
    if records[0] is None or records[1] is None:
        raise UsageError(f"The run in {folder} ended before its model was loaded; start it again.")
    options = replace(TuneOptions.from_dict(records[0].values), output=folder)
    entry = options.model_entry()
    instrument = Instrument(store, ledger_of(options), records[1].values)
    return Context(options, entry, instrument, space_of(options, entry), NoProgress(), partner_of(options))


def ledger_of(options: TuneOptions) -> Ledger:
    """What may be spent.

    Raises:
        UsageError: the budget is no positive number.
    """
    ledger = Ledger(options.budget)
    return Ledger(options.budget + COMPARE_IE) if options.compare else ledger


def partner_of(options: TuneOptions) -> Partner | None:
    """The cache to tune with, where it is not left to the search.

    Raises:
        UsageError: there is no such cache, or it does not go with the other options.
    """
    if options.partner is None:
        return None
    if options.actions == "copy":
        raise UsageError(
            "Schedules that only copy are not planned around a cache; leave out --with, or --actions copy."
        )
    if options.partner == AUTO:
        return None
    try:
        return Partner.parse(options.partner)
    except ScheduleError as error:
        raise UsageError(f"--with: {error} Or give {AUTO}, or {NO_PARTNER}.") from None


def space_of(options: TuneOptions, entry: ModelEntry) -> SearchSpace:
    """What a search may choose, within the memory that the options leave."""
    limit = None if options.memory is None else options.memory * GIB
    return load_space_of(entry).model_copy(update={"memory_bytes": limit, "reuse": options.partner == AUTO})


@contextmanager
def open_scratch(runner: Runner, space: SearchSpace | None = None) -> Iterator[Context]:
    """The tools of a run for a model that is loaded already; what it measures is not kept.

    Args:
        runner: the model.
        space: what a search may choose; the model's own by default.
    """
    entry = runner.entry
    with tempfile.TemporaryDirectory() as folder, MeasurementStore(folder) as store:
        place = here(runner, store, environment())
        instrument = Instrument(store, Ledger(BUDGET), place.subject, place.source)
        options = TuneOptions(entry.name, target_speedup=ANY_TARGET, output=Path(folder))
        own = space or load_space_of(entry)
        yield Context(options, entry, instrument, own, NoProgress())

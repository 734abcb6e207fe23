"""Measurements in PostgreSQL, shared by runs and machines; all times are the database's own.

What was measured is kept by the kind of machine it was measured on and by its key; timing is never taken from another
kind. Writing twice is no different from writing once. A lease says that somebody is making a measurement, until when.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Literal

import numpy as np
import safetensors.numpy
from sqlalchemy import Connection, Engine, create_engine, delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError

from tuner.errors import TunerError, UsageError
from tuner.run.job import Job, Made
from tuner.run.store import canonical_json, key_hash
from tuner.work.tables import ARRAYS, ENVIRONMENTS, LEASES, MEASUREMENTS, METADATA

CONNECT_SECONDS = 5
PATIENCE = 60.0  # seconds to wait for a database when a run begins
PAUSE = 5.0  # seconds in which a database that was away is not asked again
STATEMENT_SECONDS = 120
LOCK = 7_420_611_905  # of those that make the tables, so that two do not at once
Claim = Literal["mine", "taken"]


class AwayError(TunerError):
    """The database cannot be reached, or went away in the middle."""


class Database:
    """One database, as a worker of one kind of machine sees it.

    Attributes:
        url: without its password.
        owner: names this worker.
    """

    def __init__(self, url: str, environment: dict[str, Any], owner: str, patience: float = PATIENCE) -> None:
        """Connect, and make the tables where there are none.

        Args:
            url: postgresql://user:password@host:port/name.
            environment: of the machine that measures.
            owner: names this worker.
            patience: seconds to wait for a database that is away.

        Raises:
            UsageError: it is no such URL, or the database refuses or cannot be reached.
        """
        self.owner = owner
        self.environment = key_hash(environment)
        self._described = canonical_json(environment)
        self._engine, self.url = engine_for(url)
        self._ask_again = 0.0
        began = time.monotonic()
        while True:
            try:
                with self._begin() as connection:
                    connection.execute(select(func.pg_advisory_xact_lock(LOCK)))
                    METADATA.create_all(connection)
                    row = {"environment": self.environment, "described": self._described}
                    connection.execute(insert(ENVIRONMENTS).values(row).on_conflict_do_nothing())
                return
            except AwayError as error:
                lasting = any(word in str(error) for word in ("authentication", "does not exist", "permission"))
                if lasting or time.monotonic() - began > patience:
                    raise UsageError(f"The store {self.url} cannot be used: {error}.") from error
                time.sleep(1.0)
                self._ask_again = 0.0

    def find(self, job: Job) -> Made | None:
        """What was measured, or None.

        Raises:
            AwayError: the database is away.
        """
        wanted = select(MEASUREMENTS.c["values"], ARRAYS.c.data).select_from(MEASUREMENTS.outerjoin(ARRAYS))
        with self._begin() as connection:
            row = connection.execute(wanted.where(*self._is(MEASUREMENTS, job.key_hash))).first()
        if row is None:
            return None
        arrays: dict[str, np.ndarray] = {} if row[1] is None else safetensors.numpy.load(bytes(row[1]))
        return json.loads(row[0]), arrays

    def claim(self, job: Job, seconds: float) -> Claim:
        """Say that this worker makes a measurement, where nobody else does whose lease still runs.

        Raises:
            AwayError: the database is away.
        """
        until = func.clock_timestamp() + timedelta(seconds=seconds)
        row = {"environment": self.environment, "key_hash": job.key_hash, "owner": self.owner, "until": until}
        free = (LEASES.c.until < func.clock_timestamp()) | (LEASES.c.owner == self.owner)
        statement = insert(LEASES).values(row)
        statement = statement.on_conflict_do_update(
            index_elements=[LEASES.c.environment, LEASES.c.key_hash],
            set_={"owner": statement.excluded.owner, "until": statement.excluded.until},
            where=free,
        )
        with self._begin() as connection:
            given = connection.execute(statement.returning(LEASES.c.owner)).first()
        return "taken" if given is None else "mine"

    def release(self, job: Job) -> None:
        """Give a lease back.

        Raises:
            AwayError: the database is away; the lease runs out by itself.
        """
        with self._begin() as connection:
            connection.execute(delete(LEASES).where(*self._is(LEASES, job.key_hash), LEASES.c.owner == self.owner))

    def deliver(self, job: Job, measured: Made) -> None:
        """Keep a measurement; one that is there already stays, and so does nothing but the lease change.

        Raises:
            AwayError: the database is away, or went away before it had everything; it then has nothing of it.
        """
        values, arrays = measured
        digest: str | None = None
        with self._begin() as connection:
            if arrays:
                data = safetensors.numpy.save({name: np.ascontiguousarray(a) for name, a in arrays.items()})
                digest = hashlib.sha256(data).hexdigest()
                connection.execute(insert(ARRAYS).values(sha256=digest, data=data).on_conflict_do_nothing())
            row = {
                "environment": self.environment,
                "key_hash": job.key_hash,
                "key": canonical_json(dict(job.key)),
                "values": canonical_json(values),
                "arrays": digest,
                "owner": self.owner,
            }
            connection.execute(insert(MEASUREMENTS).values(row).on_conflict_do_nothing())
            connection.execute(delete(LEASES).where(*self._is(LEASES, job.key_hash), LEASES.c.owner == self.owner))

    def missing(self, hashes: Sequence[str]) -> set[str]:
        """Those of some measurements that are not there.

        Raises:
            AwayError: the database is away.
        """
        wanted = select(MEASUREMENTS.c.key_hash).where(
            MEASUREMENTS.c.environment == self.environment, MEASUREMENTS.c.key_hash.in_(hashes)
        )
        with self._begin() as connection:
            return set(hashes) - set(connection.execute(wanted).scalars())

    def forget(self, hashes: Sequence[str]) -> None:
        """Count measurements as not made, so that they are made again.

        Raises:
            AwayError: the database is away.
        """
        where = MEASUREMENTS.c.environment == self.environment, MEASUREMENTS.c.key_hash.in_(hashes)
        with self._begin() as connection:
            connection.execute(delete(MEASUREMENTS).where(*where))

    def close(self) -> None:
        """Give up all connections."""
        self._engine.dispose()

    def _is(self, table: Any, digest: str) -> tuple[Any, Any]:
        return table.c.environment == self.environment, table.c.key_hash == digest

    @contextmanager
    def _begin(self) -> Iterator[Connection]:
        """One transaction; a database that was away a moment ago counts as away."""
        if time.monotonic() < self._ask_again:
            raise AwayError("it was away a moment ago")
        try:
            with self._engine.begin() as connection:
                yield connection
        except DBAPIError as error:
            if not (isinstance(error, OperationalError) or error.connection_invalidated):
                raise
            self._ask_again = time.monotonic() + PAUSE
            raise AwayError(_reason(error)) from error


def engine_for(url: str) -> tuple[Engine, str]:
    """An engine that gives up on what does not answer, and the URL without its password.

    Raises:
        UsageError: it is no URL of a PostgreSQL database.
    """
    address = psycopg_url(url)
    options = {
        "connect_timeout": CONNECT_SECONDS,
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 20_000,
        "options": f"-c statement_timeout={STATEMENT_SECONDS * 1000}",
    }
    made = create_engine(address, pool_pre_ping=True, pool_size=2, connect_args=options)
    return made, make_url(address).render_as_string(hide_password=True)


def psycopg_url(url: str) -> str:
    """The URL as SQLAlchemy and Optuna take it.

    Raises:
        UsageError: it is no URL of a PostgreSQL database.
    """
    try:
        parsed = make_url(url)
    except ArgumentError:
        parsed = None
    if parsed is None or parsed.get_backend_name() not in ("postgresql", "postgres") or not parsed.database:
        raise UsageError("--store is no URL of a PostgreSQL database; give postgresql://USER:PASSWORD@HOST:PORT/NAME.")
    return parsed.set(drivername="postgresql+psycopg").render_as_string(hide_password=False)


def _reason(error: DBAPIError) -> str:
    said = str(error.orig).strip().splitlines() or [type(error).__name__]
    return said[0].rstrip(".")

"""What a worker has to do with a shared database, which may be away at any moment: its own log comes first."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any
from uuid import uuid4

from tuner.run.job import Job, Made
from tuner.run.store import COST, MeasurementStore
from tuner.work.database import AwayError, Database
from tuner.work.lease import Lease
from tuner.work.sharing import ElsewhereError
from tuner.work.signs import Signs


class Shared:
    """A database that this worker shares with others; see `tuner.work.sharing.Sharing`.

    Attributes:
        database: shared.
    """

    def __init__(self, database: Database, lease: float, signs: Signs) -> None:
        """
        Args:
            database: shared.
            lease: seconds that a claim holds without a sign of life.
            signs: of this worker.
        """
        self.database = database
        self._lease, self._signs = lease, signs

    @classmethod
    def open(cls, url: str, environment: dict[str, Any], lease: float, signs: Signs) -> Shared:
        """Connect.

        Args:
            url: of the database.
            environment: of the machine that measures.
            lease, signs: see above.

        Raises:
            UsageError: see `Database`.
        """
        owner = f"{platform.node()} {os.getpid()} {uuid4().hex[:8]}"
        return cls(Database(url, environment, owner), lease, signs)

    def find(self, job: Job) -> Made | None:
        """What others measured; None where there is nothing, or the database is away."""
        with suppress(AwayError):
            return self.database.find(job)
        return None

    @contextmanager
    def claimed(self, job: Job) -> Iterator[None]:
        """Work under a lease; without one where the database is away.

        Raises:
            ElsewhereError: somebody else has it.
        """
        claim = "away"
        with suppress(AwayError):
            claim = self.database.claim(job, self._lease)
        if claim == "taken":
            raise ElsewhereError
        if claim == "away":
            yield
            return
        with Lease(self.database, job, self._lease, self._signs):
            yield

    def deliver(self, log: MeasurementStore) -> int:
        """Bring to the database what it does not have of a log: this moment's, and what it missed while it was away.

        Returns:
            How many measurements it still misses.
        """
        mine = {digest: line["key"] for digest, line in log.items() if COST in line["values"]}
        missing = set(mine)
        with suppress(AwayError):
            missing = self.database.missing(list(mine))
            for digest in sorted(missing):
                record = log.get(mine[digest])
                if record is not None:
                    self.database.deliver(Job(record.key), (record.values, record.arrays))
                missing.discard(digest)
        return len(missing)

    def forget(self, hashes: Sequence[str]) -> None:
        """Have them made again, by whoever needs them; where the database is away, it keeps them."""
        with suppress(AwayError):
            self.database.forget(hashes)

    def close(self) -> None:
        """Give up all connections."""
        self.database.close()

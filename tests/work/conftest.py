"""What the tests of workers and stores share: a server, a store with a log, jobs that cost nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.work.postgres import Postgres, why_not


@pytest.fixture(scope="session")
def server() -> Iterator[Postgres]:
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    with Postgres() as found:
        yield found

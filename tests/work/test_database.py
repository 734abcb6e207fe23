"""Measurements in a real PostgreSQL server: shared, leased, written twice, and written while it comes and goes."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest

from tests.work.postgres import Postgres, Proxy
from tuner.errors import UsageError
from tuner.run.job import Job, Made
from tuner.run.store import COST, MeasurementStore
from tuner.work import database as database_module
from tuner.work.database import AwayError, Database, psycopg_url
from tuner.work.here import Here
from tuner.work.shared import Shared
from tuner.work.sharing import ElsewhereError
from tuner.work.signs import Signs
from tuner.work.worker import Worker

LEASE = 3.0


@pytest.fixture
def kind() -> dict[str, Any]:
    """A kind of machine of its own, so that tests do not see each other's measurements."""
    return {"cpu": uuid4().hex}


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_module, "PAUSE", 0.0)


def job(name: str = "one") -> Job:
    return Job({"kind": "pair", "name": name})


def made(value: float = 1.0) -> Made:
    return {"value": value, COST: 2.5}, {"a": np.arange(1000.0) * value}


class Bench:
    """Stands for a loaded model; `Worker` gives it to what makes measurements."""

    def forget_unfinished(self) -> None:
        pass


class Run:
    """A worker with a log of its own on a database, and how often it measured."""

    def __init__(
        self, url: str, kind: dict[str, Any], folder: Path, seconds: float = 0.0, lease: float = LEASE
    ) -> None:
        self.signs = Signs()
        self.log = MeasurementStore(folder)
        self.sharing = Shared.open(url, kind, lease, self.signs)
        self.measured: list[str] = []
        self.seconds = seconds
        bench: Any = Bench()
        self.worker = Worker(bench, self.log, self.sharing, self.signs, self._make)

    def _make(self, job: Job, *_: Any) -> Made:
        self.measured.append(job.key["name"])
        began = time.monotonic()
        while time.monotonic() - began < self.seconds:
            self.signs.begin()  # as a denoiser that is called
            time.sleep(0.05)
        return {"value": len(self.measured)}, {"a": np.full(100, float(len(self.measured)))}

    def ask(self, *names: str) -> dict[str, Made]:
        found: dict[str, Made] = {}
        Here(self.worker).make([job(name) for name in names], lambda job, m: found.update({job.key["name"]: m}))  # type: ignore[dict-item]
        return found

    def close(self) -> None:
        self.sharing.close()
        self.log.close()


@pytest.fixture
def runs(server: Postgres, kind: dict[str, Any], tmp_path: Path) -> Iterator[Any]:
    with ExitStack() as stack:

        def make(name: str, url: str = server.url, **how: Any) -> Run:
            run = Run(url, kind, tmp_path / name, **how)
            stack.callback(run.close)
            return run

        yield make


def test_what_one_run_measured_another_does_not_measure_again(runs: Any) -> None:
    first, second = runs("first"), runs("second")
    assert first.ask("a", "b").keys() == second.ask("b", "a").keys()
    assert (first.measured, second.measured) == (["a", "b"], [])
    ours, theirs = (run.log.get(job("a").key) for run in (first, second))
    assert ours.values == theirs.values
    assert np.array_equal(ours.arrays["a"], theirs.arrays["a"])


def test_another_kind_of_machine_shares_nothing(server: Postgres, kind: dict[str, Any], tmp_path: Path) -> None:
    for number, where in enumerate((kind, {**kind, "gpu": "another"})):
        run = Run(server.url, where, tmp_path / str(number))
        run.ask("a")
        assert run.measured == ["a"]
        run.close()


def test_writing_twice_is_writing_once(server: Postgres, kind: dict[str, Any]) -> None:
    database = Database(server.url, kind, "me")
    database.deliver(job(), made(1.0))
    database.deliver(job(), made(2.0))  # a late result of somebody else
    found = database.find(job())
    assert found is not None
    assert found[0]["value"] == 1.0
    assert np.array_equal(found[1]["a"], np.arange(1000.0))
    assert database.missing([job().key_hash, job("two").key_hash]) == {job("two").key_hash}
    database.forget([job().key_hash])
    assert database.find(job()) is None
    database.close()


def test_a_lease_is_exclusive_runs_out_and_is_given_back(server: Postgres, kind: dict[str, Any]) -> None:
    mine, other = (Database(server.url, kind, owner) for owner in ("me", "other"))
    assert mine.claim(job(), 60) == "mine"
    assert mine.claim(job(), 60) == "mine"
    assert other.claim(job(), 60) == "taken"
    mine.release(job())
    assert other.claim(job(), 0.2) == "mine"
    assert mine.claim(job(), 60) == "taken"
    time.sleep(0.4)
    assert mine.claim(job(), 60) == "mine"
    other.release(job())  # it is not theirs any more
    assert other.claim(job(), 60) == "taken"
    for database in (mine, other):
        database.close()


def test_two_runs_at_once_make_each_measurement_once(runs: Any) -> None:
    names = [str(number) for number in range(6)]
    both = [runs("first", seconds=0.3), runs("second", seconds=0.3)]
    threads = [threading.Thread(target=run.ask, args=names) for run in both]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(both[0].measured + both[1].measured) == names
    for name in names:
        values = [run.log.get(job(name).key).values for run in both]
        assert values[0] == values[1]


def test_a_lease_lasts_as_long_as_there_are_signs_of_life(runs: Any) -> None:
    alive, other = runs("alive", seconds=3.0, lease=1.0), runs("other", lease=1.0)
    thread = threading.Thread(target=alive.ask, args=("a",))
    thread.start()
    time.sleep(2.0)  # twice the lease
    with pytest.raises(ElsewhereError):
        other.worker.do(job("a"))
    thread.join()
    assert other.ask("a")["a"][0]["value"] == 1
    assert other.measured == []


def test_what_hangs_is_taken_over_and_its_late_result_is_welcome(runs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    hanging, other = runs("hanging", lease=0.5), runs("other", lease=0.5)
    again = threading.Event()

    def hang(*_: Any) -> Made:
        again.wait(30)  # gives no sign
        return {"value": -1}, {}

    monkeypatch.setattr(hanging.worker, "_perform", hang)
    thread = threading.Thread(target=hanging.ask, args=("a",))
    thread.start()
    time.sleep(0.2)
    assert other.ask("a")["a"][0]["value"] == 1
    again.set()
    thread.join(30)
    assert hanging.log.get(job("a").key).values["value"] == -1
    found = other.sharing.database.find(job("a"))
    assert found[0]["value"] == 1  # the first one stays


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT])
def test_a_database_that_was_away_gets_later_what_it_missed(how: int, runs: Any, server: Postgres) -> None:
    run, other = runs("run"), runs("other")
    run.ask("a")
    server.shut(how)
    try:
        run.ask("b", "c")
        assert run.sharing.deliver(run.log) > 0
    finally:
        server.start()
    run.ask("d")
    assert run.sharing.deliver(run.log) == 0
    other.ask("a", "b", "c", "d")
    assert other.measured == []


@pytest.mark.parametrize("after", [0, 40, 2_000, 9_000])
def test_a_connection_cut_half_way_leaves_nothing_half_written(
    after: int, server: Postgres, kind: dict[str, Any]
) -> None:
    proxy = Proxy(server.port)
    database = Database(server.url_at(proxy.port), kind, "me")
    proxy.cut(after)
    away = 0
    for number in range(9):
        try:
            database.deliver(job(str(number)), made(float(number)))
        except AwayError:
            away += 1
    assert proxy.cuts == 1
    assert away <= 1  # none where it was noticed before anything was sent
    direct = Database(server.url, kind, "other")
    for number in range(9):
        found = direct.find(job(str(number)))
        assert found is None or np.array_equal(found[1]["a"], np.arange(1000.0) * number)
    for number in range(9):
        database.deliver(job(str(number)), made(float(number)))
    assert direct.missing([job(str(number)).key_hash for number in range(9)]) == set()
    for each in (database, direct):
        each.close()
    proxy.close()


@pytest.mark.parametrize("url", ["nonsense", "sqlite:///x.db", "postgresql://host", "mysql://u@h/d", ""])
def test_what_is_no_database_is_refused_in_one_sentence(url: str) -> None:
    with pytest.raises(UsageError, match=r"^--store is no URL of a PostgreSQL database; give postgresql://"):
        psycopg_url(url)


def test_who_cannot_be_reached_or_refuses_is_said_without_the_password(server: Postgres, kind: dict[str, Any]) -> None:
    nowhere = "postgresql://me:secret@127.0.0.1:1/x"
    with pytest.raises(UsageError, match=r"^The store postgresql\+psycopg://me:\*\*\*@127.0.0.1:1/x cannot be used: "):
        Database(nowhere, kind, "me", patience=0.0)
    with pytest.raises(UsageError, match="does not exist"):
        Database(server.url_at(server.port) + "2", kind, "me")

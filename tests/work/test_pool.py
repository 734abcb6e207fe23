"""Several workers side by side: order, deaths, hangs and refusals, with workers that are threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tuner.errors import BudgetExhaustedError, NonFiniteError, TunerError, UsageError
from tuner.run.instrument import Instrument
from tuner.run.job import Job, Made, Request
from tuner.run.ledger import Ledger
from tuner.run.store import COST, FAILED, MeasurementStore
from tuner.work import pool as pool_module
from tuner.work.outcome import ELSEWHERE, failed, made
from tuner.work.pool import Crew, DeadError, Pool

Behaviour = Callable[[Job], Any]


class Threads(Crew):
    """Workers that do what a test says; they die by raising `DeadError`."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.hired: list[int] = []
        self.dismissed: list[Any] = []
        self.began: list[str] = []
        self.silent = 0.0

    def hire(self, number: int) -> Any:
        self.hired.append(number)
        return object()

    def opening(self, worker: Any) -> Any:
        return self._promise(lambda: made(({}, {})))

    def doing(self, worker: Any, job: Job) -> Any:
        self.began.append(job.key["name"])
        return self._promise(lambda: self.behaviour(job))

    def asking(self, worker: Any) -> Any:
        return self._promise(lambda: self.silent)

    def wait(self, promises: Sequence[Any], seconds: float) -> list[Any]:
        return list(wait(promises, seconds, FIRST_COMPLETED).done)

    def result(self, promise: Any) -> Any:
        return promise.result()

    def dismiss(self, worker: Any) -> None:
        self.dismissed.append(worker)

    def close(self) -> None:
        pass

    def _promise(self, work: Callable[[], Any]) -> Future[Any]:
        promise: Future[Any] = Future()

        def run() -> None:
            try:
                promise.set_result(work())
            except Exception as error:
                promise.set_exception(error)

        threading.Thread(target=run, daemon=True).start()
        return promise


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "TICK", 0.02)
    monkeypatch.setattr(pool_module, "AGAIN", 0.02)


def jobs(*names: str) -> list[Job]:
    return [Job({"kind": "pair", "name": name}) for name in names]


def measured(job: Job) -> Any:
    return made(({"name": job.key["name"], COST: 1.0}, {"a": np.ones(3)}))


def pool_of(crew: Threads, count: int = 2, lease: float = 60.0) -> tuple[Pool, list[str]]:
    said: list[str] = []
    return Pool(crew, [(number, crew.hire(number)) for number in range(count)], lease, said.append), said


def make(pool: Pool, *names: str) -> dict[str, Made | Exception]:
    found: dict[str, Made | Exception] = {}
    pool.make(jobs(*names), lambda job, outcome: found.update({job.key["name"]: outcome}))
    return found


def test_as_many_are_made_at_once_as_there_are_workers_begun_in_the_order_of_asking() -> None:
    together = threading.Barrier(3, timeout=20)

    def behaviour(job: Job) -> Any:
        together.wait()
        return measured(job)

    crew = Threads(behaviour)
    pool, _ = pool_of(crew, 3)
    assert make(pool, *"abcdef").keys() == set("abcdef")
    assert crew.began == list("abcdef")
    assert pool.width == 3


def test_a_dead_workers_job_is_made_by_another_first_of_all() -> None:
    died: list[str] = []

    def behaviour(job: Job) -> Any:
        if job.key["name"] == "a" and not died:
            died.append("a")
            raise DeadError("it was killed")
        return measured(job)

    crew = Threads(behaviour)
    pool, said = pool_of(crew, 1)
    found = make(pool, "a", "b")
    assert [found[name][0]["name"] for name in "ab"] == ["a", "b"]  # type: ignore[index]
    assert crew.began == ["a", "a", "b"]
    assert crew.hired == [0, 0]
    assert said == ["worker 1 was lost: it was killed"]


def test_a_job_that_ends_every_worker_is_given_up_and_the_others_are_not() -> None:
    def behaviour(job: Job) -> Any:
        if job.key["name"] == "bad":
            raise DeadError("it ran out of memory")
        return measured(job)

    pool, _ = pool_of(Threads(behaviour))
    found = make(pool, "bad", "b", "c")
    assert isinstance(found["bad"], UsageError)
    assert "ended 3 workers, the last one because it ran out of memory" in str(found["bad"])
    assert found["b"][0]["name"] == "b"  # type: ignore[index]


def test_what_gives_no_sign_of_life_is_dismissed() -> None:
    hangs = threading.Event()

    def behaviour(job: Job) -> Any:
        if not hangs.is_set():
            hangs.set()
            time.sleep(60)
        return measured(job)

    crew = Threads(behaviour)
    crew.silent = 100.0
    pool, said = pool_of(crew, 1, lease=0.3)
    assert "a" in make(pool, "a")
    assert len(crew.dismissed) == 1
    assert "gave no sign of life for" in said[0]


def test_a_slow_worker_that_gives_signs_is_left_alone() -> None:
    crew = Threads(lambda job: (time.sleep(1.0), measured(job))[1])
    pool, said = pool_of(crew, 1, lease=0.3)
    assert "a" in make(pool, "a")
    assert (crew.dismissed, said) == ([], [])


def test_what_is_made_elsewhere_is_asked_for_again_while_the_others_go_on() -> None:
    asked: list[str] = []

    def behaviour(job: Job) -> Any:
        asked.append(job.key["name"])
        return (ELSEWHERE,) if job.key["name"] == "a" and asked.count("a") < 3 else measured(job)

    pool, _ = pool_of(Threads(behaviour), 1)
    assert make(pool, "a", "b").keys() == {"a", "b"}
    assert asked.index("b") < 2
    assert asked.count("a") == 3


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (UsageError("the plain model produces NaN"), UsageError),
        (torch.OutOfMemoryError("CUDA out of memory"), torch.OutOfMemoryError),
        (KeyError("x"), RuntimeError),
    ],
)
def test_errors_come_back_as_what_they_were(error: Exception, kind: type[Exception]) -> None:
    pool, _ = pool_of(Threads(lambda job: failed(error)), 1)
    found = make(pool, "a")["a"]
    assert type(found) is kind
    assert str(error) in str(found)


@pytest.mark.parametrize("said", [MemoryError("none left"), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_a_worker_that_ran_out_of_memory_makes_place_for_another(said: Exception) -> None:
    asked: list[str] = []

    def behaviour(job: Job) -> Any:
        asked.append(job.key["name"])
        return failed(said) if len(asked) == 1 else measured(job)

    crew = Threads(behaviour)
    pool, lost = pool_of(crew, 1)
    assert make(pool, "a")["a"][0]["name"] == "a"  # type: ignore[index]
    assert len(crew.dismissed) == 1
    assert "ran out of memory" in lost[0]


def test_without_any_worker_left_it_ends_with_a_sentence() -> None:
    class Hopeless(Threads):
        def opening(self, worker: Any) -> Any:
            return self._promise(lambda: failed(UsageError("the weights are gone")))

    def die(job: Job) -> Any:
        raise DeadError("it was killed")

    pool, _ = pool_of(Hopeless(die), 1)
    with pytest.raises(TunerError, match=r"No worker is left; the last one was lost because the weights are gone\."):
        make(pool, "a")


def instrument(folder: Path, behaviour: Behaviour, width: int, budget: float = 100.0) -> Instrument:
    pool, _ = pool_of(Threads(behaviour), width)
    return Instrument(MeasurementStore(folder), Ledger(budget, unit_seconds=1.0), {}, pool)


def requests(of: Instrument, count: int) -> list[Request]:
    return [Request("certify", of.job("pair", name=str(number)), 1.0) for number in range(count)]


def test_whatever_arrives_first_the_ledger_and_the_results_are_the_same(tmp_path: Path) -> None:
    rows = []
    for width, delays in ((1, (0, 0, 0, 0)), (4, (0.2, 0.1, 0.05, 0)), (4, (0, 0.05, 0.1, 0.2)), (3, (0, 0.2, 0, 0))):

        def behaviour(job: Job, delays: Sequence[float] = delays) -> Any:
            number = int(job.key["name"])
            time.sleep(delays[number])
            return made(({COST: 1.0 + number / 10}, {"a": np.full(3, number)}))

        one = instrument(tmp_path / str(len(rows)), behaviour, width)
        wanted = requests(one, 4)
        one.ahead(wanted)
        assert one.ledger.rows() == []  # charged when it is asked for
        found = [one.measure(each.stage, each.job, each.expected_ie) for each in wanted]
        rows.append(([record.arrays["a"].tolist() for record in found], one.ledger.rows(), one.ledger.spent_ie))
        one.store.close()
    assert all(row == rows[0] for row in rows)


def test_no_more_is_begun_than_the_budget_holds(tmp_path: Path) -> None:
    one = instrument(tmp_path, lambda job: made(({COST: 1.0}, {})), 4, budget=2.5)
    wanted = requests(one, 4)
    one.ahead(wanted)
    assert len(one.store) == 2
    for each in wanted[:2]:
        one.measure(each.stage, each.job, each.expected_ie)
    with pytest.raises(BudgetExhaustedError, match="raise --budget"):
        one.measure("certify", wanted[2].job, 1.0)


def test_what_was_made_ahead_and_never_asked_for_is_charged_in_the_end_also_when_read_again(tmp_path: Path) -> None:
    one = instrument(tmp_path, lambda job: made(({COST: 2.0}, {})), 2)
    wanted = requests(one, 3)
    one.ahead(wanted)
    one.measure("certify", wanted[0].job, 1.0)
    one.settle()
    assert one.ledger.spent_ie == 6.0
    one.store.close()
    again = Instrument(MeasurementStore(tmp_path, read_only=True), Ledger(100.0, unit_seconds=1.0), {})
    again.ahead(wanted)
    again.measure("certify", wanted[0].job, 1.0)
    again.settle()
    assert again.ledger.rows() == one.ledger.rows()


def test_errors_of_what_was_made_ahead_are_raised_when_it_is_asked_for(tmp_path: Path) -> None:
    def behaviour(job: Job) -> Any:
        if job.key["name"] == "0":
            return failed(UsageError("the plain model produces NaN"))
        return made(({COST: 1.0, FAILED: "With this schedule"}, {}))

    one = instrument(tmp_path, behaviour, 2)
    wanted = requests(one, 2)
    one.ahead(wanted)
    with pytest.raises(UsageError, match="plain model"):
        one.measure("certify", wanted[0].job)
    with pytest.raises(NonFiniteError, match="With this schedule"):
        one.measure("certify", wanted[1].job)
    assert len(one.store) == 1

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from asymrnr.schedule import Schedule
from tests.pipelines.helpers import left_as_found
from tests.pipelines.helpers import schedule as schedule_of
from tests.pipelines.tiny_pipelines import build, tiny_entry
from tuner.errors import BudgetExhaustedError, NonFiniteError, UsageError
from tuner.run.instrument import Instrument
from tuner.run.job import Made
from tuner.run.ledger import Ledger
from tuner.run.pair import Pair
from tuner.run.runner import Generation, Runner
from tuner.run.store import COST, FAILED, LOG_NAME, PEAK, MeasurementStore
from tuner.run.twin import NoTwinError
from tuner.work import bench as bench_module
from tuner.work import perform as perform_module
from tuner.work import worker as worker_module
from tuner.work.bench import Bench
from tuner.work.here import Here
from tuner.work.worker import Worker

SUBJECT = {"model": "fake", "weights": "none", "workload": {"steps": 3}}
PLAN = Schedule(rates={"Q": np.full((2, 3), 0.5)})
BROKEN = Schedule(rates={"Q": np.full((2, 3), 0.75)})
PLAIN_SECONDS, TUNED_SECONDS = 4.0, 2.0


class FakeTime:
    """Seconds pass only where work is done."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(worker_module, "perf_counter", lambda: self.now)


class FakeRunner:
    """Generates out of nothing; a plain generation takes four seconds and one more for every seed above zero."""

    def __init__(self, time: FakeTime) -> None:
        self.time = time
        self.pipe = self.entry = None
        self.device = torch.device("cpu")
        self.asked: list[tuple[str, int, bool]] = []

    def generate(self, prompt: str, seed: int, schedule: Schedule | None = None, **_: Any) -> Generation:
        self.asked.append((prompt, seed, schedule is not None))
        seconds = PLAIN_SECONDS + seed if schedule is None else TUNED_SECONDS
        self.time.now += seconds
        if schedule is not None and schedule.content_hash() == BROKEN.content_hash():
            raise NonFiniteError("With this schedule fake produces NaN.")
        steps = np.full(3, seconds / 4)
        return Generation(torch.full((2, 3, 4, 4), 0.5), torch.full((1, 2), float(seed)), steps, seconds)

    def time_steps(self, steps: int, prompt: str, schedule: Schedule | None = None, **_: Any) -> np.ndarray:
        self.asked.append((prompt, -1, schedule is not None))
        self.time.now += steps
        return np.full(steps, 1.0 if schedule is None else 0.5)


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> FakeTime:
    def no_twin(_: Any) -> None:
        raise NoTwinError("it is a fake")

    monkeypatch.setattr(bench_module, "twin_pipeline", no_twin)
    return FakeTime(monkeypatch)


@pytest.fixture
def runner(time: FakeTime) -> FakeRunner:
    return FakeRunner(time)


def test_the_memory_of_a_gpu_is_kept_with_what_took_it(
    tmp_path: Path, runner: FakeRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    began: list[Any] = []
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", began.append)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 123 * len(began))
    runner.device = torch.device("cuda")
    instrument = make(tmp_path, runner)
    instrument.pair("verify", "a", 0, PLAN)
    instrument.pair("verify", "a", 1, PLAN)
    assert [record.values[PEAK] for record in instrument.store] == [123, 246]
    assert began == [runner.device] * 2


def make(folder: Path, runner: Any, budget: float = 100, read_only: bool = False) -> Instrument:
    store = MeasurementStore(folder, read_only=read_only)
    return Instrument(store, Ledger(budget), SUBJECT, None if runner is None else here(store, runner))


def here(store: MeasurementStore, runner: Any) -> Here:
    return Here(Worker(Bench(runner), store))


def sites(instrument: Instrument, work: Callable[..., Made], stage: str = "preflight", ie: float = 0.0, **more: Any):
    """Measures what a test says that it is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(perform_module, "WORK", {**perform_module.WORK, "sites": work})
        return instrument.measure(stage, instrument.job("sites", **more), ie)


def counted(calls: list[int], time: FakeTime, seconds: float = 1.5) -> Callable[..., Made]:
    def work(*_: Any) -> Made:
        calls.append(len(calls))
        time.now += seconds
        return {"number": np.float64(len(calls))}, {"a": np.arange(3.0)}

    return work


def run(instrument: Instrument, work: Callable[..., Made], stop_after: int = 99) -> list[Pair]:
    """A small run: a measurement, pairs of which one breaks, first steps."""
    pairs: list[Pair] = []

    def broken() -> None:
        with pytest.raises(NonFiniteError, match="fake produces NaN"):
            instrument.pair("verify", "a", 1, BROKEN)

    stages: list[Callable[[], Any]] = [
        lambda: sites(instrument, work, ie=0.5),
        lambda: instrument.first_steps("preflight", "a", PLAN, 2),
        lambda: pairs.append(instrument.pair("verify", "a", 0, PLAN, 2.0)),
        broken,
        lambda: pairs.append(instrument.pair("certify", "b", 3, PLAN)),
    ]
    for stage in stages[:stop_after]:
        stage()
    return pairs


def test_a_measurement_is_made_once_and_read_back(tmp_path: Path, time: FakeTime) -> None:
    calls: list[int] = []
    instrument = make(tmp_path, FakeRunner(time))
    key = instrument.key("sites", detail=1)
    assert key == {"kind": "sites", **SUBJECT, "detail": 1}
    first = sites(instrument, counted(calls, time), detail=1)
    second = sites(instrument, counted(calls, time), detail=1)
    assert calls == [0]
    assert first.values == second.values == {"number": 1.0, COST: 1.5}
    assert second.arrays["a"].tolist() == [0, 1, 2]
    sites(instrument, counted(calls, time), detail=2)
    assert calls == [0, 1]


@pytest.mark.parametrize("after", range(5))
def test_a_resumed_run_ends_with_the_ledger_of_an_uninterrupted_one(tmp_path: Path, time: FakeTime, after: int) -> None:
    whole = make(tmp_path / "whole", FakeRunner(time))
    expected = run(whole, counted([], time))
    begun = make(tmp_path / "resumed", FakeRunner(time))
    run(begun, counted([], time), stop_after=after)
    begun.store.close()
    runner = FakeRunner(time)
    resumed = make(tmp_path / "resumed", runner)
    found = run(resumed, counted([], time))
    assert resumed.ledger.rows() == whole.ledger.rows()
    assert resumed.ledger.unit_seconds == whole.ledger.unit_seconds
    assert resumed.ledger.spent_ie == whole.ledger.spent_ie
    assert [pair.key_hash for pair in found] == [pair.key_hash for pair in expected]
    assert len(runner.asked) == (7, 7, 5, 3, 2)[after]


def test_a_finished_run_is_read_without_running_anything(tmp_path: Path, time: FakeTime) -> None:
    whole = make(tmp_path, FakeRunner(time))
    pairs = run(whole, counted([], time))
    log = (tmp_path / LOG_NAME).read_bytes()
    again = make(tmp_path, None, read_only=True)  # while the run still has the folder
    read = run(again, lambda *_: pytest.fail("measured again"))
    assert again.ledger.rows() == whole.ledger.rows()
    assert [p.plain.seconds for p in read] == [p.plain.seconds for p in pairs] == [4, 7]
    assert (tmp_path / LOG_NAME).read_bytes() == log


def test_the_unit_is_the_mean_plain_generation(tmp_path: Path, runner: FakeRunner) -> None:
    instrument = make(tmp_path, runner)
    assert instrument.ledger.unit_seconds is None
    for seed, mean in ((0, 4.0), (2, 5.0), (6, 20 / 3)):
        instrument.pair("certify", "a", seed, PLAN)
        assert instrument.ledger.unit_seconds == pytest.approx(mean)
    assert instrument.ledger.spent_ie == pytest.approx((4 + 6 + 10 + 3 * TUNED_SECONDS) / (20 / 3))


def test_what_the_budget_does_not_hold_is_refused_before_anything_runs(tmp_path: Path, runner: FakeRunner) -> None:
    instrument = make(tmp_path, runner, budget=3)
    instrument.pair("verify", "a", 0, PLAN, expected_speedup=2.0)  # 1.5 generations
    asked = list(runner.asked)
    with pytest.raises(BudgetExhaustedError, match=r"needs 1\.67 generations, but only 1\.50"):
        instrument.pair("verify", "a", 1, PLAN, expected_speedup=1.5)
    with pytest.raises(BudgetExhaustedError):
        sites(instrument, lambda *_: pytest.fail("it ran"), "profile", 2.0)
    assert runner.asked == asked
    assert len(instrument.store) == 1
    (row,) = instrument.ledger.rows()
    assert row["ie"] == pytest.approx(1.5)
    assert instrument.pair("verify", "a", 0, PLAN).seed == 0  # what is known needs no budget


def test_a_broken_schedule_is_recorded_and_raised_again(tmp_path: Path, time: FakeTime) -> None:
    rows = []
    for expected_calls in (2, 0):
        runner = FakeRunner(time)
        with make(tmp_path, runner).store as store:
            instrument = Instrument(store, Ledger(100), SUBJECT, here(store, runner))
            with pytest.raises(NonFiniteError, match=r"^With this schedule fake produces NaN\.$"):
                instrument.pair("verify", "a", 0, BROKEN)
            assert len(runner.asked) == expected_calls
            (line,) = store.lines()
            assert line["values"] == {FAILED: "With this schedule fake produces NaN.", COST: 6.0}
            assert line["arrays"] is None
            assert instrument.ledger.unit_seconds is None
            rows.append(instrument.ledger.rows())
    assert rows[0] == rows[1]


def test_other_errors_leave_no_record(tmp_path: Path, time: FakeTime) -> None:
    instrument = make(tmp_path, FakeRunner(time))

    def broken(*_: Any) -> Made:
        raise UsageError("the plain model produces NaN")

    with pytest.raises(UsageError, match="plain model"):
        sites(instrument, broken)
    assert len(instrument.store) == 0
    assert instrument.ledger.rows() == []


def test_an_instrument_without_a_runner_reads_and_refuses_to_measure(tmp_path: Path, time: FakeTime) -> None:
    with make(tmp_path, FakeRunner(time)).store as store:
        made = Instrument(store, Ledger(100), SUBJECT, here(store, FakeRunner(time))).pair("certify", "a", 0, PLAN)
    reader = make(tmp_path, None, read_only=True)
    assert reader.pair("certify", "a", 0, PLAN).key_hash == made.key_hash
    sentence = r"^The run in .* is not finished; go on with it by adding --resume to its command\.$"
    with pytest.raises(UsageError, match=sentence):
        reader.pair("certify", "a", 1, PLAN)
    with pytest.raises(UsageError, match=sentence):
        reader.first_steps("preflight", "a", PLAN, 2)


def test_where_the_budget_ended_a_run_it_ends_again_when_it_is_only_read(tmp_path: Path, time: FakeTime) -> None:
    with make(tmp_path, FakeRunner(time)).store as store:
        ledger = Ledger(3, unit_seconds=PLAIN_SECONDS)
        Instrument(store, ledger, SUBJECT, here(store, FakeRunner(time))).pair("certify", "a", 0, PLAN)
    reader = Instrument(MeasurementStore(tmp_path, read_only=True), Ledger(3, unit_seconds=PLAIN_SECONDS), SUBJECT)
    reader.pair("certify", "a", 0, PLAN)
    with pytest.raises(BudgetExhaustedError, match="raise --budget"):
        reader.pair("certify", "a", 1, PLAN)


def test_first_steps_are_measured_once(tmp_path: Path, runner: FakeRunner) -> None:
    instrument = make(tmp_path, runner)
    for _ in range(2):
        plain, tuned = instrument.first_steps("preflight", "a", PLAN, 2)
        assert (plain.tolist(), tuned.tolist()) == ([1, 1], [0.5, 0.5])
    assert runner.asked == [("a", -1, False), ("a", -1, True)]


def test_repeats_are_measurements_of_their_own_and_change_the_order(tmp_path: Path, runner: FakeRunner) -> None:
    instrument = make(tmp_path, runner)
    hashes = {instrument.pair("certify", "a", 0, PLAN, repeat=repeat).key_hash for repeat in (0, 1, 0, 2)}
    assert len(hashes) == 3
    assert [tuned for *_, tuned in runner.asked] == [False, True, True, False, False, True]
    assert instrument.source.worker.bench.why_no_twin == "it is a fake"


def test_a_forgotten_pair_is_measured_again(tmp_path: Path, time: FakeTime) -> None:
    with make(tmp_path, FakeRunner(time)).store as store:
        pair = Instrument(store, Ledger(100), SUBJECT, here(store, FakeRunner(time))).pair("certify", "a", 0, PLAN)
        store.forget([pair.key_hash])
    runner = FakeRunner(time)
    assert make(tmp_path, runner).pair("certify", "a", 0, PLAN).key_hash == pair.key_hash
    assert len(runner.asked) == 2


class Disturbance:
    """A hook in a denoiser, and by copy in its twin: may break off at a call, or spoil what the twin says."""

    def __init__(self, pipe: Any) -> None:
        self.stop_at: int | None = None
        self.spoil = False
        self.calls = 0
        original = pipe.transformer

        def hook(module: Any, _: Any, output: Any) -> Any:
            self.calls += 1
            if self.calls == self.stop_at:
                raise KeyboardInterrupt
            if self.spoil and module is not original:
                return (output[0] * float("nan"), *output[1:])
            return None

        pipe.transformer.register_forward_hook(hook)


def test_a_pair_in_lockstep_broken_off_leaves_no_record_and_is_repeated(tmp_path: Path) -> None:
    runner = Runner(build("mochi"), tiny_entry("mochi", 3))
    plan = schedule_of(runner.pipe, 0.5, 0.4)
    plain, tuned = runner.generate("a cat", 1), runner.generate("a cat", 1, plan)
    disturbance = Disturbance(runner.pipe)
    with make(tmp_path, runner).store as store:
        instrument = Instrument(store, Ledger(100), SUBJECT, here(store, runner))
        with left_as_found(runner.pipe), torch.inference_mode(False):
            for stop_at in (1, 4, 5):
                disturbance.calls, disturbance.stop_at = 0, stop_at
                with pytest.raises(KeyboardInterrupt):
                    instrument.pair("certify", "a cat", 1, plan)
                assert disturbance.calls == stop_at
                assert len(store) == 0
                assert (tmp_path / LOG_NAME).read_bytes() == b""
                assert instrument.ledger.rows() == []
                assert not torch.is_inference_mode_enabled()
            disturbance.stop_at = None
            before = runner.pipe.encode_prompt.spared
            pair = instrument.pair("certify", "a cat", 1, plan)
    assert instrument.source.worker.bench.why_no_twin is None
    assert pair.mode == "lock-step"
    assert torch.equal(pair.plain.latents, plain.latents)
    assert torch.equal(pair.tuned.latents, tuned.latents)
    assert pair.reduced_sites == sum(np.count_nonzero(table) for table in plan.rates.values())
    assert np.all(pair.plain.step_seconds > 0)
    assert np.all(pair.tuned.step_seconds > 0)
    spared = runner.pipe.encode_prompt.spared - before  # both sides count what encoding took once
    assert pair.plain.seconds + pair.tuned.seconds - spared < instrument.ledger.rows()[0]["seconds"]
    json.loads((tmp_path / LOG_NAME).read_text())  # one line


def test_a_side_of_a_lockstep_pair_that_breaks_ends_the_pair_and_the_next_is_sound(tmp_path: Path) -> None:
    runner = Runner(build("mochi"), tiny_entry("mochi", 3))
    plan = schedule_of(runner.pipe, 0.5, 0.4)
    plain = runner.generate("a cat", 1)
    disturbance = Disturbance(runner.pipe)
    instrument = make(tmp_path, runner)
    disturbance.spoil = True
    with left_as_found(runner.pipe):
        for _ in range(2):
            with pytest.raises(NonFiniteError, match="mochi produces NaN or infinity at denoising step 0"):
                instrument.pair("verify", "a cat", 1, plan)
            assert disturbance.calls <= 4
        disturbance.spoil = False
        pair = instrument.pair("verify", "a cat", 1, plan, repeat=1)
    assert torch.equal(pair.plain.latents, plain.latents)
    assert torch.isfinite(pair.tuned.latents).all()

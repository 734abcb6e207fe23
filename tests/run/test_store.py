from __future__ import annotations

import json
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from tuner.errors import UsageError
from tuner.run import store as store_module
from tuner.run.store import ARRAYS_NAME, LOG_NAME, MeasurementStore, key_hash

KEY = {"kind": "verify", "seed": 3, "rates": [0.25, 0.5]}


def test_a_reopened_store_finds_what_was_measured(tmp_path: Path) -> None:
    store = MeasurementStore(tmp_path / "run")
    assert store.get(KEY) is None
    arrays = {"steps": np.arange(6, dtype=np.float32).reshape(2, 3).T, "flags": np.array([1, 2])}
    written = store.put(KEY, {"seconds": np.float64(1.5), "shape": (2, 3)}, arrays)
    store.put({"kind": "other"}, {"seconds": 2})
    store.close()

    reopened = MeasurementStore(tmp_path / "run")
    assert len(reopened) == 2
    found = reopened.get({"seed": 3, "rates": (0.25, 0.5), "kind": "verify"})  # other order, tuple for list
    assert found is not None
    assert found.values == written.values == {"seconds": 1.5, "shape": [2, 3]}
    assert found.key_hash == written.key_hash
    for name, array in arrays.items():
        assert found.arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(found.arrays[name], array)
    assert [record.key["kind"] for record in reopened] == ["verify", "other"]
    assert reopened.warnings == []


def test_arrays_stay_on_disk_until_they_are_looked_at(tmp_path: Path) -> None:
    with MeasurementStore(tmp_path) as store:
        store.put(KEY, {}, {"video": np.ones(2**24, dtype=np.uint8), "few": np.arange(3.0)})
        tracemalloc.start()
        try:
            found = store.get(KEY)
            assert tracemalloc.get_traced_memory()[1] < 2**21
        finally:
            tracemalloc.stop()
        assert found is not None
        assert int(found.arrays["video"].sum()) == 2**24
        found.arrays["few"][0] = 7.0  # changes no file
        again = store.get(KEY)
        assert again is not None
        assert again.arrays["few"].tolist() == [0.0, 1.0, 2.0]


def test_key_hashes_never_change() -> None:
    # Changing these means that no run started earlier can be resumed.
    assert key_hash(KEY) == "fbe46866df95cf0ae4b16e4426abd5db542819e3f9db9077de5640da2a9aca8b"
    assert key_hash({**KEY, "seed": np.int64(3)}) == key_hash(KEY)
    assert key_hash({**KEY, "seed": 4}) != key_hash(KEY)


def test_the_newest_record_of_a_key_wins(tmp_path: Path) -> None:
    store = MeasurementStore(tmp_path)
    store.put(KEY, {"seconds": 1}, {"a": np.zeros(2)})
    store.put(KEY, {"seconds": 2}, {"a": np.ones(2)})
    for opened in (store, MeasurementStore(tmp_path, read_only=True)):
        found = opened.get(KEY)
        assert found is not None
        assert found.values == {"seconds": 2}
        assert found.arrays["a"].tolist() == [1.0, 1.0]
        assert len(opened) == 1


def test_a_last_line_cut_anywhere_is_removed_and_the_rest_survives(tmp_path: Path) -> None:
    store = MeasurementStore(tmp_path)
    store.put({"n": 1}, {"seconds": 1.0})
    first = (tmp_path / LOG_NAME).read_bytes()
    store.put({"n": 2}, {"seconds": 2.0})
    whole = (tmp_path / LOG_NAME).read_bytes()
    store.close()
    for length in range(len(first) + 1, len(whole)):
        (tmp_path / LOG_NAME).write_bytes(whole[:length])
        resumed = MeasurementStore(tmp_path)
        assert len(resumed) == 1
        assert resumed.get({"n": 2}) is None
        assert "cut off" in resumed.warnings[0]
        resumed.put({"n": 3}, {"seconds": 3.0})
        resumed.close()
        with MeasurementStore(tmp_path) as again:  # the repaired file is whole, and still says what happened
            assert again.warnings == []
            assert len(again) == 2
        lines = [json.loads(line) for line in (tmp_path / LOG_NAME).read_text().splitlines()]
        assert ["warning" in line for line in lines] == [False, True, False]


@pytest.mark.parametrize("line", [b"\0\0\0\0\n", b"[1]\n", b'{"key": {"n": 9}}\n', b"\xff\xfe\n"])
def test_a_damaged_line_in_the_middle_costs_only_itself(tmp_path: Path, line: bytes) -> None:
    store = MeasurementStore(tmp_path)
    store.put({"n": 1}, {"seconds": 1.0})
    with (tmp_path / LOG_NAME).open("ab") as log:
        log.write(line)
    store.put({"n": 2}, {"seconds": 2.0})
    store.close()
    resumed = MeasurementStore(tmp_path)
    assert len(resumed) == 2
    assert resumed.warnings == [f"Line 2 of {LOG_NAME} is damaged and was skipped."]


@pytest.mark.parametrize("damage", ["missing", "flipped", "shortened"])
def test_damaged_arrays_count_as_not_measured(tmp_path: Path, damage: str) -> None:
    with MeasurementStore(tmp_path) as store:
        store.put(KEY, {"seconds": 1.0}, {"a": np.arange(4.0)})
    (path,) = (tmp_path / ARRAYS_NAME).iterdir()
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(bytes(data) if damage == "flipped" else bytes(data[:-3]))
    store = MeasurementStore(tmp_path)
    assert store.get(KEY) is None
    assert "damaged" in store.warnings[0]
    store.put(KEY, {"seconds": 2.0}, {"a": np.arange(3.0)})
    found = store.get(KEY)
    assert found is not None
    assert found.arrays["a"].shape == (3,)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object()])
def test_what_json_cannot_say_is_refused_and_leaves_no_trace(tmp_path: Path, value: object) -> None:
    store = MeasurementStore(tmp_path)
    with pytest.raises(UsageError, match="cannot be recorded"):
        store.put(KEY, {"seconds": value})
    assert (tmp_path / LOG_NAME).read_bytes() == b""
    assert store.get(KEY) is None


def test_the_line_is_on_disk_before_put_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = MeasurementStore(tmp_path)
    synced: list[int] = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (synced.append(os.fstat(fd).st_ino), real(fd))[1])
    store.put(KEY, {"seconds": 1.0})
    assert (tmp_path / LOG_NAME).stat().st_ino in synced
    assert json.loads((tmp_path / LOG_NAME).read_text())["values"] == {"seconds": 1.0}


def test_a_folder_that_cannot_be_used_is_refused_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be kept"):
        MeasurementStore(tmp_path / "file")
    with pytest.raises(UsageError, match="cannot be kept"):
        MeasurementStore(tmp_path / "missing", read_only=True)


TAKEN = r"^Another run is measuring into .*; wait until it has ended, or choose another --output\.$"
HOLD = "import sys; from tuner.run.store import MeasurementStore; s = MeasurementStore(sys.argv[1]); "


@contextmanager
def held_by_another_process(folder: Path, then: str) -> Iterator[subprocess.Popen[str]]:
    """Another process holds the folder until it is told something, and then does this."""
    code = HOLD + "print('open', flush=True); sys.stdin.readline(); " + then
    command = [sys.executable, "-c", code, str(folder)]
    root = Path(__file__).parents[2]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def test_a_folder_belongs_to_one_store_until_it_is_closed(tmp_path: Path) -> None:
    first = MeasurementStore(tmp_path)
    first.put(KEY, {"seconds": 1.0})
    for _ in range(2):
        with pytest.raises(UsageError, match=TAKEN):
            MeasurementStore(tmp_path)
    assert MeasurementStore(tmp_path / "other").get(KEY) is None
    first.put({"n": 2}, {})  # a refused one takes nothing away
    first.close()
    first.close()
    with MeasurementStore(tmp_path) as second:
        assert len(second) == 2
        with pytest.raises(UsageError, match=TAKEN):
            MeasurementStore(tmp_path)
    with pytest.raises(ValueError, match="stop"), MeasurementStore(tmp_path):
        raise ValueError("stop")
    MeasurementStore(tmp_path).close()


def test_another_process_is_refused_too(tmp_path: Path) -> None:
    with MeasurementStore(tmp_path):
        done = subprocess.run(
            [sys.executable, "-c", HOLD, str(tmp_path)], capture_output=True, text=True, cwd=Path(__file__).parents[2]
        )
    assert done.returncode != 0
    assert "Another run is measuring into" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("end", ["close", "exit", "kill"])
def test_a_folder_is_free_again_however_its_process_ends(tmp_path: Path, end: str) -> None:
    then = "s.close(); print('closed', flush=True); sys.stdin.readline()" if end == "close" else ""
    with held_by_another_process(tmp_path, then) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        with pytest.raises(UsageError, match=TAKEN):
            MeasurementStore(tmp_path)
        if end == "kill":
            process.kill()
        else:
            process.stdin.write("\n")
            process.stdin.flush()
        if end == "close":
            assert process.stdout.readline() == "closed\n"
        else:
            process.wait()
        with MeasurementStore(tmp_path) as store:
            store.put(KEY, {})


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def test_reading_only_needs_no_lock_and_sees_what_is_there(tmp_path: Path) -> None:
    with MeasurementStore(tmp_path) as store:
        store.put(KEY, {"seconds": 1.0}, {"a": np.arange(3)})
        before = contents(tmp_path)
        reader = MeasurementStore(tmp_path, read_only=True)
        found = reader.get(KEY)
        assert found is not None
        assert found.arrays["a"].tolist() == [0, 1, 2]
        reader.close()
        with pytest.raises(UsageError, match=TAKEN):  # the reader's end frees nothing
            MeasurementStore(tmp_path)
        assert contents(tmp_path) == before
        store.put({"n": 2}, {})


def test_reading_only_repairs_and_writes_nothing(tmp_path: Path) -> None:
    with MeasurementStore(tmp_path) as store:
        store.put(KEY, {"seconds": 1.0})
    with (tmp_path / LOG_NAME).open("ab") as log:
        log.write(b'{"arrays":null,"key":{"n":2},"val')
    for path in (tmp_path / ".lock", tmp_path / ARRAYS_NAME):  # as in a folder copied without them
        if path.is_dir():
            path.rmdir()
        else:
            path.unlink(missing_ok=True)
    before = contents(tmp_path)
    with MeasurementStore(tmp_path, read_only=True) as reader:
        assert [record.key for record in reader] == [KEY]
        assert reader.warnings == []
        with pytest.raises(UsageError, match="opened to be read only"):
            reader.put({"n": 3}, {"seconds": 1.0})
        with pytest.raises(UsageError, match="opened to be read only"):
            reader.forget([key_hash(KEY)])
        assert len(reader) == 1
    assert contents(tmp_path) == before
    assert [path.name for path in tmp_path.iterdir()] == [LOG_NAME]


def test_reading_only_creates_no_folder(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be kept"):
        MeasurementStore(tmp_path / "missing", read_only=True)
    assert list(tmp_path.iterdir()) == []


def test_records_keep_the_time_they_were_made_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter(["2030-01-02T03:04:05+00:00", "2030-01-02T03:04:06+00:00"])
    with MeasurementStore(tmp_path) as store:
        assert store.put({"n": 0}, {}).at.endswith("+00:00")
        monkeypatch.setattr(store_module, "now", lambda: next(times))
        assert store.put(KEY, {"seconds": 1.0}).at == "2030-01-02T03:04:05+00:00"
        store.put({"n": 2}, {})
    with MeasurementStore(tmp_path) as store:
        found = store.get(KEY)
        assert found is not None
        assert found.at == "2030-01-02T03:04:05+00:00"
        assert [line["at"] for line in store.lines()[1:]] == ["2030-01-02T03:04:05+00:00", "2030-01-02T03:04:06+00:00"]


def test_what_is_forgotten_counts_as_not_measured_and_stays_in_the_log(tmp_path: Path) -> None:
    with MeasurementStore(tmp_path) as store:
        forgotten = store.put(KEY, {"seconds": 1.0}, {"a": np.arange(3)})
        store.put({"n": 2}, {"seconds": 2.0})
        before = (tmp_path / LOG_NAME).read_bytes()
        store.forget([forgotten.key_hash, "0" * 64])
        assert store.get(KEY) is None
        assert len(store) == 1
        assert (tmp_path / LOG_NAME).read_bytes().startswith(before)
        store.forget([])
    with MeasurementStore(tmp_path) as store:
        assert store.warnings == []
        assert store.get(KEY) is None
        assert [record.key for record in store] == [{"n": 2}]
        store.put(KEY, {"seconds": 3.0})
    with MeasurementStore(tmp_path, read_only=True) as store:
        found = store.get(KEY)
        assert found is not None
        assert found.values == {"seconds": 3.0}
    assert len(list((tmp_path / ARRAYS_NAME).iterdir())) == 1
    lines = [json.loads(line) for line in (tmp_path / LOG_NAME).read_text().splitlines()]
    assert [line["values"]["seconds"] for line in lines if "values" in line] == [1.0, 2.0, 3.0]
    assert lines[2]["forgotten"] == [forgotten.key_hash, "0" * 64]
    assert lines[2]["at"]

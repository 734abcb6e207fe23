from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from tuner.errors import UsageError
from tuner.run.store import LOG_NAME, MeasurementStore, key_hash

KEY = {"kind": "verify", "seed": 3, "rates": [0.25, 0.5]}


def test_a_reopened_store_finds_what_was_measured(tmp_path: Path) -> None:
    store = MeasurementStore(tmp_path / "run")
    assert store.get(KEY) is None
    arrays = {"steps": np.arange(6, dtype=np.float32).reshape(2, 3).T, "flags": np.array([1, 2])}
    written = store.put(KEY, {"seconds": np.float64(1.5), "shape": (2, 3)}, arrays)
    store.put({"kind": "other"}, {"seconds": 2})

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


def test_key_hashes_never_change() -> None:
    # Changing these means that no run started earlier can be resumed.
    assert key_hash(KEY) == "fbe46866df95cf0ae4b16e4426abd5db542819e3f9db9077de5640da2a9aca8b"
    assert key_hash({**KEY, "seed": np.int64(3)}) == key_hash(KEY)
    assert key_hash({**KEY, "seed": 4}) != key_hash(KEY)


def test_the_newest_record_of_a_key_wins(tmp_path: Path) -> None:
    store = MeasurementStore(tmp_path)
    store.put(KEY, {"seconds": 1}, {"a": np.zeros(2)})
    store.put(KEY, {"seconds": 2}, {"a": np.ones(2)})
    for opened in (store, MeasurementStore(tmp_path)):
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
    for length in range(len(first) + 1, len(whole)):
        (tmp_path / LOG_NAME).write_bytes(whole[:length])
        resumed = MeasurementStore(tmp_path)
        assert len(resumed) == 1
        assert resumed.get({"n": 2}) is None
        assert "cut off" in resumed.warnings[0]
        resumed.put({"n": 3}, {"seconds": 3.0})
        again = MeasurementStore(tmp_path)  # the repaired file is whole, and still says what happened
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
    resumed = MeasurementStore(tmp_path)
    assert len(resumed) == 2
    assert resumed.warnings == [f"Line 2 of {LOG_NAME} is damaged and was skipped."]


@pytest.mark.parametrize("damage", ["missing", "flipped", "shortened"])
def test_damaged_arrays_count_as_not_measured(tmp_path: Path, damage: str) -> None:
    MeasurementStore(tmp_path).put(KEY, {"seconds": 1.0}, {"a": np.arange(4.0)})
    (path,) = (tmp_path / "arrays").iterdir()
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(bytes(data) if damage == "flipped" else bytes(data[:-3]))
    store = MeasurementStore(tmp_path)
    assert store.get(KEY) is None
    assert "damaged" in store.warnings[0]


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

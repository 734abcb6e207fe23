"""The log of everything measured: appended and fsync'ed before anybody uses a value, so a killed run loses nothing."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import safetensors.numpy
from filelock import FileLock, Timeout
from safetensors import SafetensorError

from asymrnr.durable import write_durably
from tuner.errors import UsageError

LOG_NAME = "measurements.jsonl"
LOCK_NAME = ".lock"
FIELDS = ("key", "values", "arrays", "at")
ARRAYS_NAME = "arrays"
COST = "cost_seconds"
PEAK = "peak_bytes"
FAILED = "failed"
"""Of a record's values: seconds that making it took, most memory of a GPU meanwhile, and what it failed with."""


@dataclass(frozen=True)
class Record:
    """One measurement.

    Attributes:
        key: what was measured, under which conditions.
        key_hash: SHA-256 of the key's canonical JSON, in hex.
        values: what came out, as plain JSON values.
        arrays: the arrays that came with it, by name; of one that was read they stay on disk until they are looked at.
        at: when it was recorded, ISO 8601, UTC.
    """

    key: dict[str, Any]
    key_hash: str
    values: dict[str, Any]
    arrays: dict[str, np.ndarray]
    at: str = ""


def canonical_json(value: Any) -> str:
    """JSON with sorted keys, no spaces and no NaN; numpy scalars and arrays and paths become plain values.

    Raises:
        UsageError: the value holds NaN, infinity or something JSON cannot say.
    """
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, default=_plain)
    except (TypeError, ValueError) as error:
        raise UsageError(f"A measurement cannot be recorded: {error}.") from None


def key_hash(key: Mapping[str, Any]) -> str:
    """SHA-256 (hex) of a key; equal for equal content whatever the order of its entries."""
    return hashlib.sha256(canonical_json(dict(key)).encode()).hexdigest()


class MeasurementStore:
    """Measurements in a folder, found by the content of their key; the folder is this process's until `close`.

    Each record is one line of `measurements.jsonl`; its arrays lie in `arrays/<key hash>-<digest>.safetensors`,
    written before the line. A line cut off by a crash is removed when the folder is opened again. A damaged record
    counts as not measured. `warnings` says what was found damaged, `forgotten` what was ever forgotten.
    """

    def __init__(self, folder: Path | str, read_only: bool = False) -> None:
        """Open the folder, creating it where needed.

        Args:
            folder: where the measurements are.
            read_only: only look; nothing is created, locked or repaired.

        Raises:
            UsageError: the folder cannot be created or written, or another process is measuring into it.
        """
        self.folder = Path(folder)
        self.read_only = read_only
        self.warnings: list[str] = []
        self.forgotten: set[str] = set()
        self._spoken_of: set[str] = set()  # files of arrays, also of records that others replaced
        self._lines: dict[str, dict[str, Any]] = {}
        self._claim = FileLock(self.folder / LOCK_NAME, timeout=0)
        try:
            if not read_only:
                (self.folder / ARRAYS_NAME).mkdir(parents=True, exist_ok=True)
                self._claim.acquire()
            self._open_log()
            if not read_only:
                self._clean()
        except Timeout:
            raise UsageError(
                f"Another run is measuring into {self.folder}; wait until it has ended, or choose another --output."
            ) from None
        except OSError as error:
            self.close()
            reason = error.strerror or type(error).__name__
            raise UsageError(f"Measurements cannot be kept in {self.folder}: {reason}.") from None

    def close(self) -> None:
        """Let other processes have the folder; further calls do nothing."""
        self._claim.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self._lines)

    def __iter__(self) -> Iterator[Record]:
        """All undamaged records, oldest first."""
        for line in list(self._lines.values()):
            record = self.get(line["key"])
            if record is not None:
                yield record

    def items(self) -> list[tuple[str, dict[str, Any]]]:
        """Hashes of keys, and what `lines` gives."""
        return list(self._lines.items())

    def lines(self) -> list[dict[str, Any]]:
        """Key, values and time ("at") of every record, oldest first, without its arrays."""
        return list(self._lines.values())

    def get(self, key: Mapping[str, Any]) -> Record | None:
        """The newest record of this key, or None when it was never measured (or its arrays are damaged)."""
        digest = key_hash(key)
        line = self._lines.get(digest)
        if line is None:
            return None
        arrays: dict[str, np.ndarray] = {}
        if line["arrays"] is not None:
            try:
                arrays = _mapped(self.folder / ARRAYS_NAME / line["arrays"]["file"], line["arrays"]["sha256"])
            except (OSError, ValueError, SafetensorError) as error:
                self.warnings.append(f"The arrays of measurement {digest[:12]} are damaged ({error}); measuring again.")
                del self._lines[digest]
                return None
        return Record(line["key"], digest, line["values"], arrays, line["at"])

    def put(
        self, key: Mapping[str, Any], values: Mapping[str, Any], arrays: Mapping[str, np.ndarray] | None = None
    ) -> Record:
        """Record a measurement; when this returns, it is on disk. A second record of the same key replaces the first.

        Args:
            key: what was measured; together with nothing else it must identify the measurement.
            values: plain values; NaN is refused, a failed measurement says so in words.
            arrays: numpy arrays of any shape, where values are not enough.

        Raises:
            UsageError: the values cannot be written as JSON, the disk refuses, or the folder was opened to read only.
        """
        self._require_writable()
        digest = key_hash(key)
        line: dict[str, Any] = {"key": dict(key), "values": dict(values), "arrays": None, "at": now()}
        line = json.loads(canonical_json(line))  # what a resumed run will read
        kept = {name: np.ascontiguousarray(array) for name, array in (arrays or {}).items()}
        try:
            if kept:
                data = safetensors.numpy.save(kept)
                content = hashlib.sha256(data).hexdigest()
                name = f"{digest[:32]}-{content[:16]}.safetensors"
                write_durably(self.folder / ARRAYS_NAME / name, data)
                line["arrays"] = {"file": name, "sha256": content}
            self._append(line)
        except OSError as error:
            raise UsageError(f"A measurement cannot be written to {self.folder}: {error.strerror or error}.") from None
        self._lines[digest] = line
        return Record(line["key"], digest, line["values"], kept, line["at"])

    def forget(self, hashes: Sequence[str]) -> None:
        """Count measurements as not made, so that they are made again; what was recorded stays in the log.

        Raises:
            UsageError: the disk refuses, or the folder was opened to read only.
        """
        self._require_writable()
        try:
            self._append({"forgotten": list(hashes), "at": now()})
        except OSError as error:
            raise UsageError(f"A measurement cannot be written to {self.folder}: {error.strerror or error}.") from None
        for digest in hashes:
            self._lines.pop(digest, None)
        self.forgotten.update(hashes)

    def _require_writable(self) -> None:
        if self.read_only:
            raise UsageError(f"{self.folder} was opened to be read only.")

    def _append(self, line: dict[str, Any]) -> None:
        with (self.folder / LOG_NAME).open("ab", buffering=0) as log:
            before = log.tell()
            data = canonical_json(line).encode() + b"\n"
            if log.write(data) != len(data):  # the disk is full: a half line would swallow the next one
                log.truncate(before)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(log.fileno())

    def _open_log(self) -> None:
        path = self.folder / LOG_NAME
        if not path.exists() and not self.read_only:
            write_durably(path, b"")
        data = path.read_bytes()
        whole = data.rfind(b"\n") + 1
        for number, text in enumerate(data[:whole].splitlines(), start=1):
            try:
                line = json.loads(text)
                if "forgotten" in line:
                    for digest in line["forgotten"]:
                        self._lines.pop(digest, None)
                        self.forgotten.add(digest)
                elif "warning" not in line:
                    record = _record(line)
                    self._lines[key_hash(line["key"])] = record
                    if record["arrays"] is not None:
                        self._spoken_of.add(record["arrays"]["file"])
            except (ValueError, KeyError, TypeError, RecursionError, UsageError):
                self.warnings.append(f"Line {number} of {LOG_NAME} is damaged and was skipped.")
        if whole < len(data) and not self.read_only:
            with path.open("r+b") as log:
                log.truncate(whole)
                os.fsync(log.fileno())
            message = f"The last line of {LOG_NAME} was cut off after {len(data) - whole} bytes and was removed."
            self.warnings.append(message)
            self._append({"warning": message})

    def _clean(self) -> None:
        """Remove what a killed process had begun to write: temporary files, and arrays that no line speaks of."""
        for path in (*self.folder.glob("*.part"), *(self.folder / ARRAYS_NAME).glob("*.part")):
            path.unlink(missing_ok=True)
        if self.warnings:  # a damaged line may have spoken of them
            return
        known = self._spoken_of
        for path in (self.folder / ARRAYS_NAME).glob("*.safetensors"):
            if path.name not in known:
                path.unlink(missing_ok=True)


def _mapped(path: Path, sha256: str) -> dict[str, np.ndarray]:
    """The arrays of a file, which stay on disk until somebody looks at them; writing to them changes no file.

    Raises:
        OSError, SafetensorError: it cannot be read, or its content has another hash.
    """
    with path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
            raise SafetensorError("content differs from its hash")
    with safetensors.safe_open(path, framework="pt") as arrays:
        return {name: arrays.get_tensor(name).numpy() for name in arrays.keys()}  # noqa: SIM118  (no mapping)


def _record(line: dict[str, Any]) -> dict[str, Any]:
    """The fields of a line that records a measurement.

    Raises:
        KeyError, TypeError, ValueError: it does not.
    """
    found = {name: line[name] for name in FIELDS}
    if not (isinstance(found["key"], dict) and isinstance(found["values"], dict) and isinstance(found["at"], str)):
        raise TypeError
    if found["arrays"] is not None:
        name = found["arrays"]["file"]
        if not (isinstance(name, str) and Path(name).name == name and isinstance(found["arrays"]["sha256"], str)):
            raise ValueError
    return found


def now() -> str:
    """The time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} is not a plain value")

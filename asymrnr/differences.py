"""What differs between two descriptions of an environment or workload, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def differences(recorded: Mapping[str, Any], current: Mapping[str, Any]) -> list[str]:
    """Compare what was recorded with what is here, entry by entry.

    Entries that only `recorded` has are not asked about; entries that it lacks count as different, unless they are
    None here too. Nested mappings are compared entry by entry.

    Returns:
        One sentence per difference, sorted by entry; empty when nothing differs.
    """
    return [
        f"{name} was {_said(before, 'not recorded')} and is {_said(now, 'absent')} here."
        for name, before, now in _changes(recorded, current)
    ]


def _changes(recorded: Mapping[str, Any], current: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    found: list[tuple[str, Any, Any]] = []
    for name, now in sorted(current.items()):
        before = recorded.get(name)
        if isinstance(now, Mapping) and isinstance(before, Mapping):
            found += [(f"{name}.{inner}", old, new) for inner, old, new in _changes(before, now)]
        elif _comparable(before) != _comparable(now):
            found.append((name, before, now))
    return found


def _comparable(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _said(value: Any, nothing: str) -> str:
    return nothing if value is None else repr(value)

"""Brings documents of earlier releases to the present format, one version at a time."""

from __future__ import annotations

from typing import Any

OLDEST = 1


def migrate(document: dict[str, Any]) -> dict[str, Any]:
    """A document of any version since `OLDEST` in the present one.

    Args:
        document: as it was saved, with its hash checked; is not changed.

    Returns:
        The same where it is of the present version; else without its hash, which was that of the old one.
    """
    version = document["schema_version"]
    if version >= len(_NEXT) + OLDEST:
        return document
    document = {name: value for name, value in document.items() if name != "sha256"}
    for step in _NEXT[version - OLDEST :]:
        document = step(document)
    return document


def _to_2(document: dict[str, Any]) -> dict[str, Any]:
    """Version 2 knows what a schedule was made for, and others beside it; before, only the speed-up gate knew."""
    gates = document.get("gates")
    every = [gate for gate in gates if isinstance(gate, dict)] if isinstance(gates, list) else []
    target = next((gate.get("threshold") for gate in every if gate.get("name") == "speedup"), None)
    return {"target": target, "frontier": [], **document, "schema_version": 2}


def _to_3(document: dict[str, Any]) -> dict[str, Any]:
    """Version 3 says how refreshes keep what later steps need; before, there was but one way, which is what it takes
    where nothing is said."""
    return {**document, "schema_version": 3}


def _to_4(document: dict[str, Any]) -> dict[str, Any]:
    """Version 4 says which adapters, quantisation, offloading and sharding it was measured with; before, there were
    none, which is what it takes where nothing is said."""
    return {**document, "schema_version": 4}


_NEXT = (_to_2, _to_3, _to_4)

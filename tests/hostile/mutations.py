"""Documents changed at random, the way that neither people nor programs would."""

from __future__ import annotations

import copy
import json
import random
from contextlib import suppress
from typing import Any

VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 3, 10**30, -(10**400), 1e308, -1e-320, 0.5, "", "x", "2x2x2", "0x0x0", "9" * 5_000),
    *("\ud800", "\0", "../../etc", [], {}, [[]], [None], [[0.5]], {"": {}}, {"steps": -1}, [1e999], float("nan")),
)


def mutated(document: Any, generator: random.Random) -> Any:
    """A copy with one to four places replaced, removed, doubled or exchanged."""
    found = copy.deepcopy(document)
    for _ in range(generator.randint(1, 4)):
        places = [(inner, name) for inner, name in _places(found)]
        if not places:
            break
        inner, name = generator.choice(places)
        match generator.randrange(5):
            case 0 | 1:
                inner[name] = copy.deepcopy(generator.choice(VALUES))
            case 2:
                del inner[name]
            case 3:
                other, there = generator.choice(places)
                with suppress(RecursionError):
                    inner[name] = copy.deepcopy(other.get(there) if isinstance(other, dict) else _at(other, there))
            case 4 if isinstance(inner, dict):
                inner[f"{name} too"] = inner[name]
            case _:
                inner[name] = nested(inner[name], generator.choice((2, 50, 5_000)))
    return found


def nested(value: Any, depth: int) -> Any:
    for _ in range(depth):
        value = [value]
    return value


def scrambled(content: bytes, generator: random.Random) -> bytes:
    """Some bytes changed, cut out or repeated."""
    data = bytearray(content)
    for _ in range(generator.randint(1, 6)):
        at = generator.randrange(len(data)) if data else 0
        match generator.randrange(4):
            case 0 if data:
                data[at] = generator.randrange(256)
            case 1:
                del data[at : at + generator.randint(1, 200)]
            case 2:
                data[at:at] = data[at : at + generator.randint(1, 200)]
            case _:
                data[at:at] = bytes(generator.randrange(256) for _ in range(3))
    return bytes(data)


def said(document: Any) -> bytes:
    """As JSON, with what only lenient readers take."""
    try:
        return json.dumps(document).encode("utf-8", "surrogatepass")
    except RecursionError:
        return b"[" * 10_000


def _places(value: Any, depth: int = 0) -> Any:
    if depth > 60:
        return
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, inner in list(entries):
        yield value, name
        yield from _places(inner, depth + 1)


def _at(values: Any, index: Any) -> Any:
    return values[index] if isinstance(values, list) and index < len(values) else None

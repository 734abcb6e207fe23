"""The page of settings says what the code says."""

from __future__ import annotations

import re
from dataclasses import MISSING, fields, is_dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from tuner.search.trust import Trust

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "settings.md"
ROWS = re.findall(r"^\| `([\w.]+)` \| `(.+?)` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)


def in_code(name: str) -> Any:
    """A module's constant, or the default of a class's field."""
    module, _, last = name.rpartition(".")
    if not module.rpartition(".")[2][0].isupper():
        return getattr(import_module(module), last)
    cls = getattr(import_module(module.rpartition(".")[0]), module.rpartition(".")[2])
    if is_dataclass(cls):
        (default,) = (field.default for field in fields(cls) if field.name == last and field.default is not MISSING)
        return default
    return cls.model_fields[last].default


def test_there_are_settings() -> None:
    assert len(ROWS) > 30


@pytest.mark.parametrize(("name", "value"), ROWS)
def test_the_value_is_that_of_the_code(name: str, value: str) -> None:
    assert in_code(name) == eval(value, {"Trust": Trust})

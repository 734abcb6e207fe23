"""The models that `--model` takes: those of `hub.py` and those that installed packages register.

A package registers models with an entry point of the group `asymrnr.models` that names a sequence of entries:

    [project.entry-points."asymrnr.models"]
    mine = "my_package.models:ENTRIES"
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, MutableMapping
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points

from tuner.errors import UsageError
from tuner.models.entry import ModelEntry
from tuner.models.hub import ENTRIES

GROUP = "asymrnr.models"


class Registry(MutableMapping[str, ModelEntry]):
    """Models by name.

    Packages are asked on first use, not on import: their modules import `tuner.models` themselves.
    """

    def __init__(self, entries: Iterable[ModelEntry]) -> None:
        """
        Args:
            entries: the models that need no other package.
        """
        self._given = tuple(entries)

    @cached_property
    def _entries(self) -> dict[str, ModelEntry]:
        found = {entry.name: entry for entry in self._given}
        for point in entry_points(group=GROUP):
            for entry in registered(point):
                if entry.name in found:
                    raise _broken(point, f"there is a model '{entry.name}' already")
                found[entry.name] = entry
        return found

    def __getitem__(self, name: str) -> ModelEntry:
        return self._entries[name]

    def __setitem__(self, name: str, entry: ModelEntry) -> None:
        self._entries[name] = entry

    def __delitem__(self, name: str) -> None:
        del self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


def registered(point: EntryPoint) -> tuple[ModelEntry, ...]:
    """What a package registers.

    Raises:
        UsageError: it cannot be imported, or registers something else than models.
    """
    try:
        entries = tuple(point.load())
    except Exception as error:  # the package's own code runs here
        raise _broken(point, f"{type(error).__name__}: {error}") from error
    if not all(isinstance(entry, ModelEntry) for entry in entries):
        raise _broken(point, "it is no sequence of ModelEntry")
    return entries


def _broken(point: EntryPoint, reason: str) -> UsageError:
    package = "an installed package" if point.dist is None else f"the package {point.dist.name}"
    return UsageError(
        f"The models that {package} registers as '{point.name} = {point.value}' cannot be used: "
        f"{' '.join(reason.split())}; repair or uninstall it."
    )


REGISTRY = Registry(ENTRIES)


def find_model(name: str) -> ModelEntry:
    """The registry's entry.

    Raises:
        UsageError: there is none; the message lists the names there are.
    """
    if name not in REGISTRY:
        raise UsageError(f"There is no model '{name}'; choose one of {', '.join(sorted(REGISTRY))}.")
    return REGISTRY[name]

"""The embedded model registers itself as any other package's would."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from tuner.embedded.entries import ENTRIES
from tuner.models import REGISTRY

LIST = "from tuner.models import REGISTRY; print(*REGISTRY)"
UNKNOWN = "import sys, tuner.models; assert not [name for name in sys.modules if name.startswith('tuner.embedded')]"


def test_the_registry_finds_it() -> None:
    (entry,) = ENTRIES
    assert REGISTRY[entry.name] is entry


def test_videos_are_judged_by_captions_only() -> None:
    (entry,) = ENTRIES
    assert entry.attributes is not None
    with pytest.raises(ValueError, match="caption"):
        entry.attributes(torch.zeros(12, 3, 64, 64), "a cat")


@pytest.mark.parametrize("first", ["import tuner.embedded.entries", UNKNOWN])
def test_either_may_be_imported_first(first: str) -> None:
    """And the registry's package imports the embedded one only when a model is looked up."""
    listed = subprocess.run([sys.executable, "-c", f"{first}; {LIST}"], capture_output=True, text=True, check=True)
    assert "tiny-cogvideox" in listed.stdout

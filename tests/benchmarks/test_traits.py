"""The table of what differs between models says what the profiles do."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tuner.profile.agreement import Agreement
from tuner.profile.distribution import DIRECTIONS, POLICIES, divergence_name
from tuner.profile.profile import Profile

BLOCKS, STEPS = 2, 6


def made(q: float, v: float, **changes: Any) -> Profile:
    """One whose errors at rate 0.5 are as given, squared, but four times that in the second block, for Q alone."""
    rates = np.array([0.0, 0.3, 0.5])
    similarity = {feature: np.array([[0.9] * STEPS, [0.2] * STEPS]) for feature in ("H", "Q", "K", "V")}
    where = np.array([1.0, 4.0])[:, None, None] * np.ones((BLOCKS, STEPS, 1))
    q_error = {("2x2x2", step): q**2 * where * (rates / 0.5) * factor for step, factor in ((3, 1.0), (5, 4.0))}
    v_error = {("2x2x2", step): v**2 * np.ones((BLOCKS, STEPS, 1)) * (rates / 0.5) for step in (3, 5)}
    kl = {
        divergence_name(feature, policy, 0.5, direction): np.full((BLOCKS, STEPS), 0.25 if policy == "random" else -0.5)
        for feature in ("Q", "V")
        for policy in POLICIES
        for direction in DIRECTIONS
    }
    gaps = np.full((BLOCKS, STEPS, 3), 0.04)
    values: dict[str, Any] = {
        "model": "made",
        "workload": {"steps": STEPS, "frames": 13, "height": 64, "width": 64},
        "prompt": "",
        "seed": 0,
        "schedule_seed": 0,
        "grid": (4, 4, 4),
        "heads": 1,
        "head_dim": 8,
        "text_tokens": 2,
        "timesteps": np.linspace(999, 1, STEPS),
        "raw_similarity": similarity,
        "similarity": similarity,
        "kl": kl,
        "norm_tail": {},
        "persistence": {},
        "rates": rates,
        "q_error": q_error,
        "v_error": v_error,
        "agreement": {"Q": Agreement(0.9, 0.8, 1.0)},
        "memory_error": {"2x2x2": gaps[..., None] * rates**2},
        "broadcast_error": {"2x2x2": gaps},
    }
    return Profile(**{**values, **changes})


def test_a_column_for_every_profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from traits import main

    made(0.2, 0.1).save(tmp_path / "a")
    made(0.1, 0.3, model="other").save(tmp_path / "b")
    output = tmp_path / "traits.md"
    arguments = ["traits.py", tmp_path / "a", tmp_path / "b", "--document", output]
    monkeypatch.setattr(sys, "argv", [str(argument) for argument in arguments])
    main()
    text = output.read_text()
    assert "| | made, 6 steps | other, 6 steps |\n" in text
    rows = dict(line[2:-2].split(" | ", 1) for line in text.splitlines() if line.startswith("| ") and line[2] != "|")
    assert rows["video and text tokens"] == "64, 2 | 64, 2"
    assert rows["error of half the pairs"] == "10.0% | 30.0%"
    assert rows["queries are the more sensitive feature (paper: they are)"] == "yes | no"
    assert rows["error of half the queries, matching shared by"].split(" | ")[0] == "3 steps 31.6%, 5 steps 63.2%"
    assert rows["share of the errors by third of the steps"].startswith("first 33%, middle 33%, last 33%")
    assert rows["most sensitive block"].split(" | ")[0] == "1 of 2 (77% of all)"
    assert rows["dissimilarity and error, Spearman, Q"].startswith("1.00")
    assert rows["dissimilarity and error, Spearman, V"] == "- | -"
    assert rows["KL(all to kept), matched / random tokens, Q"].startswith("-0.50 / 0.25")
    assert rows["memory / broadcasting, a step after"].startswith("10.0% / 20.0%")
    assert rows["similarities of two prompts, Spearman, Q"].startswith("0.90 (0.80 to 1.00)")
    assert rows["similarities of two prompts, Spearman, V"] == "- | -"


def test_a_missing_profile_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from traits import main

    monkeypatch.setattr(sys, "argv", ["traits.py", str(tmp_path / "none")])
    with pytest.raises(SystemExit, match="There is no profile"):
        main()

"""Finished searches in the database, as Optuna and its dashboard read them."""

from __future__ import annotations

import optuna
import pytest

from tests.work.postgres import Postgres
from tuner.work.database import psycopg_url
from tuner.work.studies import keeper


def finished() -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=0))
    study.optimize(lambda trial: trial.suggest_float("rate", 0, 1) ** 2, n_trials=5)
    return study


def test_they_are_there_once_however_often_they_are_kept(server: Postgres) -> None:
    said: list[str] = []
    keep, study = keeper(server.url, "mochi-x1.20", said.append), finished()
    for _ in range(2):
        keep(study, "1.242x rules")
    assert said == []
    there = optuna.load_study(study_name="mochi-x1.20 1.242x rules", storage=psycopg_url(server.url))
    assert [trial.value for trial in there.trials] == [trial.value for trial in study.trials]


@pytest.mark.parametrize("port", [1])
def test_a_search_does_not_depend_on_it(port: int, server: Postgres) -> None:
    said: list[str] = []
    keeper(server.url_at(port), "x", said.append)(finished(), "y")
    assert len(said) == 1
    assert "could not be copied into the store" in said[0]
    assert "\n" not in said[0]

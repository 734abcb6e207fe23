"""Optuna's studies in the shared database, for optuna-dashboard; the search itself does not depend on it.

A search runs in memory and is copied when it is done: Optuna's storages have no heartbeat for ask and tell, and lose a
value that is told while the database is away. So nothing of a search is read back from there.
"""

from __future__ import annotations

from collections.abc import Callable

import optuna
from sqlalchemy.exc import SQLAlchemyError

from tuner.search.study import Keep
from tuner.work.database import psycopg_url


def keeper(url: str, about: str, say: Callable[[str], None]) -> Keep:
    """Copies finished studies into the database.

    Args:
        url: of the database.
        about: begins their names.
        say: told, in a sentence, when one cannot be copied.

    Returns:
        Takes a study and the end of its name; one that is there already stays.
    """
    address = psycopg_url(url)

    def keep(study: optuna.Study, name: str) -> None:
        try:
            storage = optuna.storages.RDBStorage(address, engine_kwargs={"pool_pre_ping": True})
            optuna.copy_study(
                from_study_name=study.study_name,
                from_storage=study._storage,
                to_storage=storage,
                to_study_name=f"{about} {name}",
            )
            storage.remove_session()
            storage.engine.dispose()
        except optuna.exceptions.DuplicatedStudyError:
            pass
        except (SQLAlchemyError, optuna.exceptions.OptunaError) as error:
            reason = (str(error).strip().splitlines() or ["no answer"])[0].rstrip(".")
            say(f"A study could not be copied into the store, for optuna-dashboard: {reason}.")

    return keep

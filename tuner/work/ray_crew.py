"""Workers as actors of Ray."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tuner.errors import EnvironmentMismatchError, TunerError
from tuner.run.identity import differences
from tuner.run.job import Job
from tuner.run.store import canonical_json
from tuner.work.actor import Actor
from tuner.work.cluster import Room, leave, open_room
from tuner.work.leftovers import WORKERS
from tuner.work.outcome import MADE, error_of
from tuner.work.place import Place
from tuner.work.pool import MOST_DEATHS, START, TICK, Crew, DeadError, Pool

SIGNS = "signs"  # answered while a job is being done
CACHE = Path("~/.cache/asymrnr/workers")  # on nodes of a cluster, which do not see the folder of the run


class RayCrew(Crew):
    """Actors on the nodes that there is room on."""

    def __init__(self, room: Room, folder: Path, options: dict[str, Any]) -> None:
        """
        Args:
            room: where.
            folder: holds the workers' logs.
            options: of the run, see `Actor`.
        """
        import ray

        self._room = room
        self._processes: dict[Any, int] = {}
        self._arguments = str(folder), options
        needs: dict[str, Any] = {"num_cpus": 1, "num_gpus": room.gpus, "resources": {room.resource: 1}}
        self._ray: Any = ray

        class Answering(Actor):  # by value: a client of a cluster cannot say the group with the call
            silent_for = self._ray.method(concurrency_group=SIGNS)(Actor.silent_for)

        self._actor: Any = self._ray.remote(concurrency_groups={SIGNS: 1}, max_restarts=0, **needs)(Answering)

    def hire(self, number: int) -> Any:
        return self._actor.remote(number, *self._arguments)

    def opening(self, worker: Any) -> Any:
        return worker.open.remote()

    def doing(self, worker: Any, job: Job) -> Any:
        return worker.do.remote(dict(job.key), dict(job.work))

    def asking(self, worker: Any) -> Any:
        return worker.silent_for.remote()

    def wait(self, promises: Sequence[Any], seconds: float) -> list[Any]:
        kept, _ = self._ray.wait(list(promises), num_returns=1, timeout=seconds)
        also, _ = self._ray.wait(list(promises), num_returns=len(promises), timeout=0)
        return list({*kept, *also})

    def result(self, promise: Any) -> Any:
        try:
            return self._ray.get(promise)
        except self._ray.exceptions.RayError as error:
            raise DeadError(_reason(error)) from error

    def opened(self, worker: Any, found: dict[str, Any]) -> None:
        self._processes[worker] = found["pid"]

    def dismiss(self, worker: Any) -> None:
        self._ray.kill(worker)
        process = self._processes.pop(worker, None)
        if self._room.local and process is not None:  # what is stopped does not hear Ray
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)

    def close(self) -> None:
        leave(self._room)


def _reason(error: Exception) -> str:
    """The first sentence of what Ray says, which is a page."""
    first = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return f"{type(error).__name__}: {first[:200].rstrip('.')}"


def join(
    workers: str,
    device: str,
    folder: Path,
    options: dict[str, Any],
    known: dict[str, Any] | None,
    lease: float,
    say: Callable[[str], None],
) -> Place:
    """Start workers, and keep those of one kind.

    Args:
        workers, device: see `open_room`.
        folder: of the run.
        options: of the run, as plain values.
        known: environment of what was measured before; None for nothing.
        lease: see `Pool`.
        say: told what happens, in sentences.

    Raises:
        UsageError: no worker can be had, or the model cannot be loaded.
        EnvironmentMismatchError: none is like the machine that measured before.
    """
    room = open_room(workers, device)
    try:
        crew = RayCrew(room, folder / WORKERS if room.local else CACHE / folder.absolute().name, options)
        opened = _opened(crew, room, say)
        kinds = Counter(canonical_json(found["environment"]) for _, _, found in opened)
        wanted = known or next(f["environment"] for _, _, f in opened if _kind(f) == kinds.most_common(1)[0][0])
        members, first = [], None
        for number, worker, found in opened:
            changed = differences(wanted, found["environment"])
            if changed:
                say(f"The worker on {found['host']} is refused: {' '.join(changed)}")
                crew.dismiss(worker)
            elif first is not None and found["subject"] != first["subject"]:
                say(f"The worker on {found['host']} is refused: its model is not the first worker's.")
                crew.dismiss(worker)
            else:
                first = first or found
                members.append((number, worker))
        if first is None:
            why = " ".join(differences(wanted, opened[0][2]["environment"]))
            raise EnvironmentMismatchError(
                f"{folder} was measured on another kind of machine than the workers ({why}); choose another --output."
            )
        pool = Pool(crew, members, lease, say)
        return Place(pool, first["environment"], first["subject"], first["gpu_bytes"])
    except BaseException:
        leave(room)
        raise


def _kind(found: dict[str, Any]) -> str:
    return canonical_json(found["environment"])


def _opened(crew: RayCrew, room: Room, say: Callable[[str], None]) -> list[tuple[int, Any, dict[str, Any]]]:
    """Start all workers, and wait until each has loaded the model; those that cannot are left out with a sentence.

    Raises:
        TunerError: none can; as the last one says.
    """
    workers = {number: crew.hire(number) for number in range(room.workers)}
    promises = {crew.opening(worker): number for number, worker in workers.items()}
    opened: list[tuple[int, Any, dict[str, Any]]] = []
    deaths: Counter[int] = Counter()
    error: Exception = TunerError(f"No worker was ready within {START:.0f} s.")
    began = time.monotonic()
    while promises and time.monotonic() - began < START:
        for promise in crew.wait(list(promises), TICK):
            number = promises.pop(promise)
            try:
                answer = crew.result(promise)
            except DeadError as death:
                deaths[number] += 1
                error = TunerError(f"No worker could be started; the last one died ({death}).")
                say(f"worker {number + 1} died while it was started: {death}")
                if deaths[number] < MOST_DEATHS:
                    workers[number] = crew.hire(number)
                    promises[crew.opening(workers[number])] = number
                continue
            if answer[0] != MADE:
                error = error_of(answer)
                say(f"worker {number + 1} could not be started: {error}")
                continue
            crew.opened(workers[number], answer[1])
            opened.append((number, workers[number], answer[1]))
            say(f"worker {len(opened)} of {room.workers} is ready on {answer[1]['host']}")
    if not opened:
        raise error
    return sorted(opened, key=lambda each: each[0])

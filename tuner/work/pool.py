"""Measurements made by several workers side by side; a worker that dies or hangs costs what it was making."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from tuner.errors import TunerError, UsageError
from tuner.run.job import Job, Made, Told, silent
from tuner.work.outcome import ELSEWHERE, FAILED, MADE, Answer, error_of

TICK = 1.0  # seconds between two looks at the workers
AGAIN = 2.0  # seconds until a job that somebody else makes is asked for again
MOST_DEATHS = 3  # of workers over one job, or of one worker while it starts
START = 900.0  # seconds in which a worker must have loaded its model


class Crew:
    """What a pool has workers from; here so that the pool can be tested without any, and Ray stays out of it."""

    def hire(self, number: int) -> Any:
        """Start a worker; it opens itself."""
        raise NotImplementedError

    def opening(self, worker: Any) -> Any:
        """A promise of what `Actor.open` gives."""
        raise NotImplementedError

    def opened(self, worker: Any, found: dict[str, Any]) -> None:
        """A worker has opened, and found this where it is."""

    def doing(self, worker: Any, job: Job) -> Any:
        """A promise of what `Actor.do` gives."""
        raise NotImplementedError

    def asking(self, worker: Any) -> Any:
        """A promise of what `Actor.silent_for` gives."""
        raise NotImplementedError

    def wait(self, promises: Sequence[Any], seconds: float) -> list[Any]:
        """Those of them that are kept by now, after at most so many seconds."""
        raise NotImplementedError

    def result(self, promise: Any) -> Any:
        """What a kept promise holds.

        Raises:
            DeadError: the worker died.
        """
        raise NotImplementedError

    def dismiss(self, worker: Any) -> None:
        """End a worker, whatever it does."""
        raise NotImplementedError

    def close(self) -> None:
        """End all of them."""
        raise NotImplementedError


class DeadError(Exception):
    """A worker died."""


@dataclass
class _Member:
    """A worker and what it is doing."""

    number: int
    worker: Any
    job: Job | None = None
    promise: Any = None  # of the job, or of opening
    question: Any = None
    heard_at: float = 0.0
    deaths: int = 0
    ready: bool = False


@dataclass
class _Work:
    """Jobs of one call that are not made yet."""

    queue: deque[Job]
    later: list[tuple[float, Job]] = field(default_factory=list)
    deaths: dict[str, int] = field(default_factory=dict)
    done: int = 0


class Pool:
    """A source of measurements that several workers make.

    Attributes:
        width: workers that there were at the start.
    """

    def __init__(
        self, crew: Crew, members: Sequence[tuple[int, Any]], lease: float, say: Callable[[str], None]
    ) -> None:
        """
        Args:
            crew: where workers come from.
            members: numbers and workers that are open.
            lease: seconds without a sign of life after which a worker is taken to be dead.
            say: told, in a sentence, when one is lost.
        """
        self.width = len(members)
        self._crew, self._lease, self._say = crew, lease, say
        self._members = [_Member(number, worker, ready=True) for number, worker in members]

    def make(self, jobs: Sequence[Job], keep: Callable[[Job, Made | Exception], None], told: Told = silent) -> None:
        """Make them side by side; each is begun in the order of asking, as soon as a worker is free.

        Raises:
            TunerError: no worker is left.
        """
        work = _Work(deque(jobs))
        while work.done < len(jobs):
            now = time.monotonic()
            work.queue.extend(job for at, job in work.later if at <= now)
            work.later = [(at, job) for at, job in work.later if at > now]
            self._assign(work)
            promises = [p for m in self._members for p in (m.promise, m.question) if p is not None]
            kept = self._wait(promises)
            for member in list(self._members):
                if member.question is not None and member.question in kept:
                    self._hear(member)
                if member.promise is not None and member.promise in kept:
                    self._finish(member, work, keep)
                elif member.promise is not None:
                    self._watch(member, work, keep)
            told(work.done, len(jobs), f"{work.done} of {len(jobs)} measurements")

    def close(self) -> None:
        """End the workers."""
        self._crew.close()

    def _wait(self, promises: Sequence[Any]) -> Sequence[Any]:
        if promises:
            return self._crew.wait(promises, TICK)
        time.sleep(TICK)
        return []

    def _assign(self, work: _Work) -> None:
        for member in self._members:
            if work.queue and member.ready and member.job is None:
                member.job = work.queue.popleft()
                member.promise = self._crew.doing(member.worker, member.job)
                member.heard_at = time.monotonic()

    def _finish(self, member: _Member, work: _Work, keep: Callable[[Job, Made | Exception], None]) -> None:
        try:
            answer: Answer = self._crew.result(member.promise)
        except DeadError as error:
            self._lost(member, work, keep, str(error))
            return
        member.promise = member.question = None
        if not member.ready:
            if answer[0] != MADE:
                self._lost(member, work, keep, str(error_of(answer)))
            else:
                self._crew.opened(member.worker, answer[1])
                member.ready, member.deaths = True, 0
            return
        if answer[0] == FAILED and answer[1] == MemoryError.__name__:
            self._crew.dismiss(member.worker)  # what it holds may be why
            self._lost(member, work, keep, f"it ran out of memory ({answer[2]})")
            return
        job, member.job = member.job, None
        assert job is not None
        if answer[0] == ELSEWHERE:
            work.later.append((time.monotonic() + AGAIN, job))
            return
        work.done += 1
        keep(job, (answer[1], answer[2]) if answer[0] == MADE else error_of(answer))

    def _hear(self, member: _Member) -> None:
        question, member.question = member.question, None
        with suppress(DeadError):  # its job says so, too
            member.heard_at = max(member.heard_at, time.monotonic() - float(self._crew.result(question)))

    def _watch(self, member: _Member, work: _Work, keep: Callable[[Job, Made | Exception], None]) -> None:
        silent_for = time.monotonic() - member.heard_at
        if silent_for > (self._lease if member.ready else START):
            self._crew.dismiss(member.worker)
            self._lost(member, work, keep, f"it gave no sign of life for {silent_for:.0f} s")
        elif member.ready and member.question is None and silent_for > min(TICK, self._lease / 4):
            member.question = self._crew.asking(member.worker)

    def _lost(self, member: _Member, work: _Work, keep: Callable[[Job, Made | Exception], None], why: str) -> None:
        """A worker is gone; another one takes its place, and its job."""
        job, member.job, member.promise, member.question = member.job, None, None, None
        self._say(f"worker {member.number + 1} was lost: {why}")
        member.deaths += 1
        if job is not None:
            deaths = work.deaths[job.key_hash] = work.deaths.get(job.key_hash, 0) + 1
            if deaths < MOST_DEATHS:
                work.queue.appendleft(job)
            else:
                work.done += 1
                keep(job, UsageError(f"A measurement ({job.kind}) ended {deaths} workers, the last one because {why}."))
        if member.deaths >= MOST_DEATHS:
            self._members.remove(member)
            if not self._members:
                raise TunerError(f"No worker is left; the last one was lost because {why}.")
            return
        member.worker, member.ready = self._crew.hire(member.number), False
        member.promise = self._crew.opening(member.worker)
        member.heard_at = time.monotonic()

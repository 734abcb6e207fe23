"""Notices a second thread in what only one can run at a time."""

from __future__ import annotations

from threading import get_ident

from asymrnr.errors import InterceptionError


class OneThread:
    """Follows one thread after the other through forward passes; where two meet, both are refused.

    Whoever comes second is refused at once, and the other one at the end of its pass: what they share besides, such as
    the sampler, was changed by the second already.
    """

    def __init__(self) -> None:
        self._inside: int | None = None
        self._met = False

    def check(self) -> None:
        """Nobody else may be inside.

        Raises:
            InterceptionError: another thread is.
        """
        if self._inside is not None and self._inside != get_ident():
            self._met = True
            self._refuse()

    def enter(self) -> None:
        """A forward pass begins.

        Raises:
            InterceptionError: another thread is inside.
        """
        self.check()
        self._inside, self._met = get_ident(), False

    def finish(self) -> None:
        """The forward pass came to its end.

        Raises:
            InterceptionError: another thread was refused meanwhile.
        """
        if self._met:
            self._refuse()

    def leave(self) -> None:
        """The forward pass is over, also by an error."""
        if self._inside == get_ident():
            self._inside = None

    def _refuse(self) -> None:
        raise InterceptionError(
            "Two threads generate with this model at once, whose steps cannot be told apart while something is "
            "applied; let one wait for the other, or load the pipeline once for each thread."
        )

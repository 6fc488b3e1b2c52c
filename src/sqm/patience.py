"""Patience: work for somebody else ends early when nobody wants its result any more.

Who wants a result makes a `Patience` and ends it; who works asks in between, by waiting.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Event, Lock

from sqm.errors import SqmError


class Abandoned(SqmError):
    """Nobody wants the result of this work any more."""


class Patience:
    """How long the results of some work are wanted: until `end`."""

    def __init__(self) -> None:
        self._ended = Event()
        self._interrupts: list[Callable[[], None]] = []
        self._changing = Lock()

    @contextmanager
    def lent(self, interrupt: Callable[[], None]) -> Iterator[None]:
        """Work inside, where `wait` ends with the patience; `interrupt` ends what does not wait."""
        with self._changing:
            self._interrupts.append(interrupt)
        token = _patience.set(self)
        try:
            yield
        finally:
            _patience.reset(token)
            with self._changing:
                self._interrupts.remove(interrupt)

    def end(self) -> None:
        """Have work in progress end; again for what has begun something new since."""
        self._ended.set()
        with self._changing:
            for interrupt in self._interrupts:
                interrupt()

    def wait(self, seconds: float) -> None:
        """Wait; raises Abandoned as soon as patience has ended."""
        if self._ended.wait(seconds):
            raise Abandoned("nobody waits for this source any more: the run has ended")


_patience: ContextVar[Patience | None] = ContextVar("sqm_patience", default=None)


def wait(seconds: float) -> None:
    """Wait as long as somebody wants the result; raises Abandoned when nobody does."""
    patience = _patience.get()
    if patience is None:
        time.sleep(seconds)
    else:
        patience.wait(seconds)

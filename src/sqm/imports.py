"""What makes an import take less time, or none where nothing of it is used."""

from __future__ import annotations

import atexit
import gc
import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

Result = TypeVar("Result")
_LARGE_FRAME = 2**16  # values; half a MiB, so that CPython makes a piece of one for it


@contextmanager
def importing_much() -> Iterator[None]:
    """Keep Python's garbage collector from what is imported inside, now and later on.

    It would go through all of it time and again as it grows, and find nothing: modules stay.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        atexit.register(gc.unfreeze)  # else what is left at the end is complained about
        if collects:
            gc.enable()


def with_room(work: Callable[[], Result]) -> Callable[[], Result]:
    """The same work, with room for the frames of all that it calls.

    CPython keeps frames on pieces of 16 KiB, and gets memory for a piece and gives it back with
    every call that goes beyond the last one. Imports nest deeply and make a great many calls just
    there: 50,000 in Great Expectations, a fifth of the time. A frame that does not fit gets a piece
    of its own, at most twice its size, and what it calls has the rest of it.
    """

    def call() -> Result:
        return work()

    call.__code__ = call.__code__.replace(co_stacksize=_LARGE_FRAME)
    return call


def import_when_used(package: str, name: str) -> None:
    """Put off the import of a package's module until something in it is asked for.

    As importlib's documentation has it; that the package knows the module keeps `from package
    import name` from asking.
    """
    full_name = f"{package}.{name}"
    spec = importlib.util.find_spec(full_name)
    if full_name in sys.modules or spec is None or spec.loader is None:
        return
    loader = spec.loader = importlib.util.LazyLoader(spec.loader)
    module = sys.modules[full_name] = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    setattr(sys.modules[package], name, module)

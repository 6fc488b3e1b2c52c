"""Imports: the garbage collector is kept away meanwhile, and calls find room."""

from __future__ import annotations

import gc
import resource
from collections.abc import Callable, Iterator
from contextlib import suppress
from threading import Thread

import pytest

from sqm.imports import importing_much, with_room

CALLS = 200


@pytest.fixture(autouse=True)
def collector() -> Iterator[None]:
    was_on, frozen = gc.isenabled(), gc.get_freeze_count()
    yield
    if not frozen:
        gc.unfreeze()
    (gc.enable if was_on else gc.disable)()


@pytest.mark.parametrize("is_on", [True, False], ids=["on", "off"])
@pytest.mark.parametrize("error", [None, ImportError("no such module")], ids=["", "failing"])
def test_the_collector_is_off_meanwhile_and_as_it_was_afterwards(is_on, error):
    (gc.enable if is_on else gc.disable)()

    with suppress(ImportError), importing_much():
        assert not gc.isenabled()
        if error is not None:
            raise error

    assert gc.isenabled() is is_on


def test_what_is_imported_is_left_alone_later_on():
    before = gc.get_freeze_count()

    with importing_much():
        imported = [[n] for n in range(1_000)]

    assert gc.get_freeze_count() >= before + len(imported)


def test_calls_within_get_no_memory_of_their_own():
    """Somewhere between two pieces of the stack each call would."""

    def deepest(depth: int) -> None:
        if depth:
            deepest(depth - 1)
        before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
        for _ in range(CALLS):
            leaf()
        faults.append(resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before)

    def leaf() -> None: ...

    def most(work: Callable[[], None]) -> int:
        faults.clear()
        thread = Thread(target=work)  # with a stack of its own
        thread.start()
        thread.join()
        return max(faults)

    faults: list[int] = []

    assert most(lambda: deepest(500)) >= CALLS
    assert most(with_room(lambda: deepest(500))) < CALLS / 10


def test_what_the_work_gives_is_given():
    assert with_room(lambda: "it")() == "it"

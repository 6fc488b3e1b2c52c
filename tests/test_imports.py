"""The garbage collector and imports: kept away meanwhile, and as before afterwards."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import suppress

import pytest

from sqm.imports import importing_much


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

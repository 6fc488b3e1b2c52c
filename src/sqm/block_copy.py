"""Bring an older copy of a DuckDB file up to date by the blocks in which the two differ.

A DuckDB file is three headers and then blocks of one size. Each block begins with a checksum of its
content, which DuckDB compares whenever it reads one: two blocks with the same one are the same.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

from sqm.files import lock_file

HEADER = 4096  # bytes of each: the main one, and two of which the newer one counts
HEADERS = 3 * HEADER
BLOCK = 256 * 2**10
_CHECKSUM = 8
_MAGIC = slice(8, 12)
_BLOCK_SIZE = slice(40, 48)  # in the header: checksum, iteration, two blocks, their number, size


def update_copy(source: BinaryIO, copy: Path) -> bool:
    """Make `copy` the same as `source`, if it can be done by the blocks that differ.

    False, with nothing changed, where somebody has the copy open, or one of them is not a file with
    blocks as they are known here. Nobody may write to `source` meanwhile. A kill leaves a copy that
    must not be used any more. Raises OSError when it cannot be written.
    """
    with copy.open("r+b") as writing:
        if not (lock_file(writing) and _has_known_blocks(source) and _has_known_blocks(writing)):
            return False
        _copy_blocks(source, writing)
    return True


def _copy_blocks(reading: BinaryIO, writing: BinaryIO) -> None:
    source, copy = reading.fileno(), writing.fileno()
    end = _size(reading)
    writing.write(os.pread(source, HEADERS, 0))
    for at in range(HEADERS, end, BLOCK):
        # at the end of a shorter copy there is nothing, which differs as well
        if os.pread(source, _CHECKSUM, at) != os.pread(copy, _CHECKSUM, at):
            writing.seek(at)
            writing.write(os.pread(source, BLOCK, at))
    writing.truncate(end)


def _has_known_blocks(file: BinaryIO) -> bool:
    headers = os.pread(file.fileno(), HEADERS, 0)
    sizes = {int.from_bytes(headers[at:][_BLOCK_SIZE], "little") for at in (HEADER, 2 * HEADER)}
    is_whole = (_size(file) - HEADERS) % BLOCK == 0
    return headers[_MAGIC] == b"DUCK" and sizes == {BLOCK} and is_whole


def _size(file: BinaryIO) -> int:
    return os.fstat(file.fileno()).st_size

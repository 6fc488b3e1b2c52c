"""What can happen to a published file."""

from __future__ import annotations

from pathlib import Path

import pytest


def _damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


HARMS = [
    pytest.param(Path.unlink, id="missing"),
    pytest.param(lambda path: path.write_bytes(path.read_bytes()[:-1]), id="cut short"),
    pytest.param(_damage, id="one bit"),
]

"""Fixtures named for what they give."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from textwrap import dedent

import pytest
from hypothesis import HealthCheck, settings
from places import SHARED_DATA

from sqm.privacy import stay_private

# how long making an example takes says more about the machine than about the code
settings.register_profile("sqm", suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("sqm")

stay_private()

MakeProject = Callable[..., Path]


@pytest.fixture
def make_project(tmp_path: Path) -> MakeProject:
    """Write a project folder from the texts of its files; its path."""

    def make(files: Mapping[str, str | bytes], name: str = "project") -> Path:
        root = tmp_path / name
        for relative, text in files.items():
            path = root / relative
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text if isinstance(text, bytes) else dedent(text).encode())
        return root

    return make


@pytest.fixture
def clock() -> Callable[[], datetime]:
    """A clock that stands still at noon UTC on 23 November 2026."""
    return lambda: datetime(2026, 11, 23, 12, tzinfo=UTC)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real public records; tests that need them are skipped where they are not at hand."""
    folder = Path(os.environ.get("SQM_SHARED_DATA", SHARED_DATA))
    if not folder.is_dir():
        pytest.skip(f"the public data sets are not at {folder}; set SQM_SHARED_DATA")
    return folder

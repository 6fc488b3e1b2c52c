"""The starter project: the content that the wheel ships, and its copy into a new folder."""

from __future__ import annotations

import shutil
from importlib.resources import files
from pathlib import Path

from sqm.errors import SqmError

CONTENT = (
    "flows",
    "metrics",
    "expectations",
    "dashboards",
    "sqm.yaml",
    "prefect.yaml",
    "docs/clocks.md",
    "docs/kpis.md",
    "docs/records.md",
    "docs/runbook.md",
    "docs/sources.md",
)


def starter_dir() -> Path:
    """The content in the wheel, or the checkout's own in an editable install."""
    package = Path(str(files("sqm")))
    packaged = package / "starter"
    # an editable install holds the single files of the starter only, so look for a folder
    return packaged if (packaged / "metrics").is_dir() else package.parents[1]


def create_project(target: Path) -> None:
    """Copy the starter content into the folder `target`, which must be new or empty."""
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise SqmError(f"{target}: it is there already and not an empty folder; name a new folder")
    target.mkdir(parents=True, exist_ok=True)
    for name in CONTENT:
        source = starter_dir() / name
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            ignore = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source, target / name, ignore=ignore)
        else:
            shutil.copy2(source, target / name)
    (target / ".gitignore").write_text("/data/\n/var/\n", encoding="utf-8")

"""Build hook: from a git checkout only tracked files are shipped, never a forgotten `.env`."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class TrackedFilesOnly(BuildHookInterface):
    """Exclude what git does not track; elsewhere, as in an unpacked sdist, change nothing."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        git = shutil.which("git")
        if version == "editable" or git is None or not (Path(self.root) / ".git").exists():
            return
        listed = subprocess.run(  # noqa: S603  # no input from outside
            [git, "ls-files", "--others", "--exclude-standard", "-z"],
            cwd=self.root,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        excluded = self.build_config.target_config.setdefault("exclude", [])
        excluded += [f"/{_literally(path)}" for path in listed.stdout.split("\0") if path]


def _literally(path: str) -> str:
    """The path as a pattern that matches nothing else."""
    return "".join(f"\\{sign}" if sign in "*?[]!#\\ " else sign for sign in path)

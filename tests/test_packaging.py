"""The wheel: exactly the tracked content is in it, and it works from there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from zipfile import ZipFile

import pytest
from places import REPOSITORY

from sqm import __version__
from sqm.starter import CONTENT

STARTER = "sqm/starter/"


def run(*command: str | Path, cwd: Path, code: int = 0) -> str:
    """What the command prints; it must end with that exit code."""
    environment = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def tracked(*below: str) -> set[str]:
    return set(run("git", "ls-files", "-z", *below, cwd=REPOSITORY).split("\0")) - {""}


def build(kind: str, source: Path, target: Path) -> Path:
    """Build a wheel or an sdist with what is installed; its path."""
    run(
        *(sys.executable, "-m", "build", f"--{kind}", "--no-isolation", "--outdir", target),
        cwd=source,
    )
    [made] = target.iterdir()
    return made


def names_in(wheel: Path) -> set[str]:
    with ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", REPOSITORY, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository with files that nobody has added to git."""
    root = tmp_path_factory.mktemp("checkout")
    for name in tracked():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(REPOSITORY / name, root / name)
    run("git", "init", "--quiet", cwd=root)
    run("git", "add", "--all", cwd=root)
    for name in (
        "flows/.env",
        "metrics/mine.yaml",
        "metrics/tickets/draft [2] #old.yaml",
        "src/sqm/notes.txt",
        "data/records.csv",
    ):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text("secret", encoding="utf-8")
    return root


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `sqm` program of an environment that has the wheel and our libraries."""
    root = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", "--without-pip", root, cwd=root)
    python = root / "bin" / "python"
    install = ("install", "--quiet", "--no-deps", "--no-index", wheel)
    run(sys.executable, "-m", "pip", "--python", python, *install, cwd=root)
    [packages] = root.glob("lib/python*/site-packages")
    # it comes after the environment's own packages, and the .pth files in it are not read
    (packages / "libraries.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")
    return root / "bin" / "sqm"


def test_the_wheel_ships_exactly_the_tracked_content(wheel):
    shipped = {name.removeprefix(STARTER) for name in names_in(wheel) if name.startswith(STARTER)}

    assert shipped == tracked(*CONTENT)


def test_the_wheel_holds_exactly_the_tracked_engine(wheel):
    engine = {
        name
        for name in names_in(wheel)
        if not name.startswith((STARTER, f"sqm-{__version__}.dist-info/"))
    }

    assert engine == {name.removeprefix("src/") for name in tracked("src")}


@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_what_is_not_in_git_is_not_shipped(checkout, tmp_path, wheel, kind):
    made = build(kind, checkout, tmp_path / "out")
    if kind == "sdist":
        shutil.unpack_archive(made, tmp_path / "sdist", filter="data")
        [unpacked] = (tmp_path / "sdist").iterdir()
        made = build("wheel", unpacked, tmp_path / "from_sdist")

    assert names_in(made) == names_in(wheel)


def test_a_project_made_from_the_wheel_is_sound(installed, tmp_path):
    said = run(installed, "init", "mine", cwd=tmp_path)
    checked = run(installed, "check", cwd=tmp_path / "mine")
    rendered = run(installed, "render", "--check", cwd=tmp_path / "mine")

    assert said == "mine is ready. Next:\n  cd mine\n  sqm check\n  sqm demo\n"
    assert checked.endswith(": no mistakes\n")
    assert rendered == ""


def test_a_project_made_from_the_wheel_is_a_copy_of_the_repositorys(installed, tmp_path):
    run(installed, "init", tmp_path / "mine", cwd=tmp_path)

    made = {
        path.relative_to(tmp_path / "mine").as_posix(): path.read_bytes()
        for path in (tmp_path / "mine").rglob("*")
        if path.is_file()
    }
    assert made.pop(".gitignore") == b"/data/\n/var/\n"
    assert made == {name: (REPOSITORY / name).read_bytes() for name in tracked(*CONTENT)}


def test_the_installed_engine_is_the_one_in_the_wheel(installed, tmp_path):
    python = installed.parent / "python"

    place = run(python, "-c", "import sqm; print(sqm.__file__)", cwd=tmp_path)

    assert Path(place).is_relative_to(installed.parents[1])
    assert run(installed, "--version", cwd=tmp_path) == f"sqm, version {__version__}\n"

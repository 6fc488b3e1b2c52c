"""A project folder: sqm.yaml, metrics/ and expectations/, loaded whole and checked whole."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from sqm.checks import bind_kpis, kpi_faults
from sqm.clock_checks import calendar_faults, clock_faults
from sqm.clocks import with_clock_columns
from sqm.definitions import Document, build, nearest, parse_document
from sqm.errors import DefinitionError, Fault
from sqm.kpi import KINDS, BaseKpi, Kpi
from sqm.reads import expand
from sqm.records import BUILT_IN, Column, RecordType
from sqm.settings import DeclaredRecordType, Settings, Source
from sqm.source_checks import source_faults
from sqm.suite_checks import query_faults
from sqm.suites import Suite, suite_faults

SETTINGS_FILE = "sqm.yaml"


@dataclass(frozen=True, slots=True)
class Project:
    """Everything that is written down about one organisation's service quality."""

    root: Path
    settings: Settings
    record_types: Mapping[str, RecordType]
    kpis: tuple[Kpi, ...]
    suites: Mapping[str, Suite]

    @property
    def known_columns(self) -> Mapping[str, RecordType]:
        """The record types with the columns that clocks add: what a KPI expression may use."""
        return with_clock_columns(self.record_types, self.settings.clocks)

    @property
    def state(self) -> Path:
        """The folder for what sqm makes: warehouse, published snapshots, reviews."""
        return self.root / self.settings.state

    def with_kpis(self, names: Collection[str]) -> Project:
        """The same project with these KPIs only."""
        return replace(self, kpis=tuple(kpi for kpi in self.kpis if kpi.name in names))

    def source_path(self, source: Source) -> Path:
        """Where the source's file is (or its pattern), variables of the environment filled in."""
        return self.root / expand(source.read.path, os.environ)


def load_project(root: Path) -> Project:
    """Load and check every definition file below `root`.

    Raises DefinitionError with every mistake of every file.
    """
    project, kpi_mistakes = _load(root)
    if kpi_mistakes:
        raise DefinitionError(kpi_mistakes)
    return project


def load_sound_project(root: Path) -> tuple[Project, tuple[Fault, ...]]:
    """The project without the KPI files that have a mistake, and those mistakes.

    Raises DefinitionError when sqm.yaml or a suite is wrong: nothing could be trusted then.
    """
    return _load(root)


def _load(root: Path) -> tuple[Project, tuple[Fault, ...]]:
    """The project with its sound KPIs, and the mistakes in the other KPI files."""
    faults: list[Fault] = []
    kpi_mistakes: list[Fault] = []
    record_types = dict(BUILT_IN)
    settings = _load_settings(root, record_types, faults)
    clocks = settings.clocks if settings is not None else {}
    kpis = _load_kpis(root, with_clock_columns(record_types, clocks), kpi_mistakes)
    suites = dict(_load_suites(root, record_types, faults))
    if faults or settings is None:
        raise DefinitionError([*faults, *kpi_mistakes])
    return Project(root, settings, record_types, kpis, suites), tuple(kpi_mistakes)


def load_settings(root: Path) -> Settings:
    """sqm.yaml alone; raises DefinitionError with every mistake in it."""
    faults: list[Fault] = []
    settings = _load_settings(root, dict(BUILT_IN), faults)
    if settings is None:
        raise DefinitionError(faults)
    return settings


def _load_settings(
    root: Path, record_types: dict[str, RecordType], faults: list[Fault]
) -> Settings | None:
    """The settings; the record types they declare are added to `record_types`."""
    path = root / SETTINGS_FILE
    if not path.is_file():
        remedy = f"run sqm in a project folder, or make one with 'sqm init DIR' (looked in {root})"
        faults.append(Fault(SETTINGS_FILE, 0, "", "the file is missing", remedy))
        return None
    document = parse_document(SETTINGS_FILE, path.read_bytes())
    if isinstance(document, Fault):
        faults.append(document)
        return None
    record_types.update(_declared_record_types(document))
    settings = build(Settings, document)
    if isinstance(settings, list):
        faults += settings
        return None
    faults += source_faults(settings, document, record_types)
    faults += calendar_faults(settings, document)
    faults += clock_faults(settings, document, record_types)
    sources = {name: each.with_paths_as_columns() for name, each in settings.sources.items()}
    return settings.model_copy(update={"sources": sources})


def _declared_record_types(document: Document) -> Iterator[tuple[str, RecordType]]:
    """The sound record types of sqm.yaml, even where other parts of the file are wrong."""
    section = document.data.get("records")
    for name, data in section.items() if isinstance(section, dict) else ():
        declared = build(DeclaredRecordType, Document(document.file, data))
        if not isinstance(declared, list):
            columns = tuple(Column(n, t) for n, t in declared.columns.items())
            yield name, RecordType(name, declared.description, columns[0].name, columns)


def _documents(root: Path, folder: str, faults: list[Fault]) -> Iterator[tuple[Path, Document]]:
    for path in sorted((root / folder).rglob("*.yaml")):
        parsed = parse_document(path.relative_to(root).as_posix(), path.read_bytes())
        if isinstance(parsed, Fault):
            faults.append(parsed)
        else:
            yield path, parsed


def _load_kpis(
    root: Path, record_types: Mapping[str, RecordType], faults: list[Fault]
) -> tuple[Kpi, ...]:
    """The KPIs whose files have no mistake."""
    files: dict[str, str] = {}
    sound: list[tuple[BaseKpi, Document]] = []
    for path, document in _documents(root, "metrics", faults):
        kind = document.data.get("kind")
        if not isinstance(kind, str) or kind not in KINDS:
            problem = f"'{kind}' is not a kind of KPI" if kind else "this key is required"
            faults.append(document.fault(("kind",), problem, nearest(str(kind), KINDS)))
            continue
        family = path.parent.name if path.parent.name != "metrics" else ""
        document.data.setdefault("family", family)
        made = build(KINDS[kind], document)
        if isinstance(made, list):
            faults += made
            continue
        found = list(kpi_faults(made, document, record_types))
        if made.name != path.stem:
            remedy = f"rename the file to {made.name}.yaml or the KPI to {path.stem}"
            found.append(document.fault(("name",), f"'{made.name}' is not the file's name", remedy))
        if made.name in files:
            problem = f"'{made.name}' is also defined in {files[made.name]}"
            found.append(document.fault(("name",), problem, "rename one of them"))
        files[made.name] = document.file
        faults += found
        if not found:
            sound.append((made, document))
    unbound = list(bind_kpis(sound, record_types))
    faults += unbound
    wrong = {fault.file for fault in unbound}
    kept = (kpi for kpi, document in sound if document.file not in wrong)
    return tuple(kept)  # type: ignore[arg-type]  # KINDS holds the members of Kpi


def _load_suites(
    root: Path, record_types: Mapping[str, RecordType], faults: list[Fault]
) -> Iterator[tuple[str, Suite]]:
    for path, document in _documents(root, "expectations", faults):
        made = build(Suite, document)
        if isinstance(made, list):
            faults += made
            continue
        record_type = record_types.get(made.records)
        if record_type is None:
            problem = f"unknown record type '{made.records}'"
            faults.append(
                document.fault(("records",), problem, nearest(made.records, record_types))
            )
        elif made.records != path.stem:
            problem = f"'{made.records}' is not the file's name"
            remedy = f"rename the file to {made.records}.yaml"
            faults.append(document.fault(("records",), problem, remedy))
        else:
            found = suite_faults(made, record_type)
            faults += [document.fault(place, problem, remedy) for place, problem, remedy in found]
            if not found:
                faults += query_faults([(made, document)], record_types)
            yield made.records, made

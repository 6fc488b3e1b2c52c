"""Write the invented operation's exports into a folder, with the truth about them beside."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from sqm.demo.books import make_assets, make_changes, make_costs, with_incidents
from sqm.demo.customers import make_complaints, make_surveys
from sqm.demo.dirt import insert_broken_line, soil
from sqm.demo.field_work import make_jobs
from sqm.demo.files import FILES, ExportedFile
from sqm.demo.incidents import Incident, Incidents, plan_incidents
from sqm.demo.operation import COMPANY, NEVER, Span, make_span, wall_time
from sqm.demo.supply import (
    make_audits,
    make_deliveries,
    make_exposure,
    make_fixes,
    make_improvement_actions,
    make_returns,
)
from sqm.demo.trouble import make_outages, make_trouble

FEWEST_MONTHS = 3
README = f"""SYNTHETIC DATA

Everything in this folder is invented: {COMPANY}.
No customer, person, line or place in it is real. The files look like exports of the company's
systems, wrong rows included. truths.json says what was put in on purpose.
"""


def write_demo_data(folder: Path, now: datetime, seed: int = 7, months: int = 16) -> Path:
    """Write the exports as they would be at `now`; the same seed and now give the same bytes.

    Raises ValueError when `now` has no time zone or there are too few months to tell a story.
    """
    if months < FEWEST_MONTHS:
        raise ValueError(f"'months' is {months}; at least {FEWEST_MONTHS} are needed")
    span = make_span(now, months)
    incidents = plan_incidents(span.now)
    frames = _make_frames(span, incidents, seed)
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for position, file in enumerate(FILES):
        rng = np.random.default_rng([seed, 100 + position])
        written.append(_write_file(rng, folder, file, frames[file.records], span))
    truths = {
        "note": f"SYNTHETIC: invented data of {COMPANY}",
        "seed": seed,
        "now": now.isoformat(),
        "starts": wall_time(span.start).isoformat(),
        "incidents": [_truth_of(incident) for incident in incidents.since(span.start)],
        "files": written,
    }
    text = json.dumps(truths, indent=2, ensure_ascii=False) + "\n"
    (folder / "truths.json").write_text(text, encoding="utf-8")
    (folder / "README.txt").write_text(README, encoding="utf-8")
    return folder


def _make_frames(span: Span, incidents: Incidents, seed: int) -> dict[str, pl.DataFrame]:
    """The records of each type, keyed by record type; tickets as their update log."""
    # a stream per record type: a change to one leaves the others as they are
    trouble_rng, jobs_rng, *others = (np.random.default_rng([seed, n]) for n in range(13))
    changes = make_changes(others[8], span)
    trouble = make_trouble(trouble_rng, span, incidents, changes.filter("has_failed"))
    jobs = make_jobs(jobs_rng, span, incidents, trouble.tickets)
    return {
        "jobs": jobs,
        "tickets": trouble.log,
        "ticket_events": trouble.events,
        "complaints": make_complaints(others[0], span, incidents, jobs),
        "outages": make_outages(others[1], span, incidents),
        "surveys": make_surveys(others[2], span, jobs, trouble.tickets),
        "deliveries": make_deliveries(others[3], span),
        "returns": make_returns(others[4], span, incidents),
        "fixes": make_fixes(others[5], span),
        "audits": make_audits(others[6], span, jobs),
        "exposure": make_exposure(others[7], span),
        "changes": with_incidents(changes, trouble.tickets),
        "assets": make_assets(others[9], span),
        "costs": make_costs(others[10], span),
        "improvement_actions": make_improvement_actions(span, incidents),
    }


def _write_file(
    rng: np.random.Generator, folder: Path, file: ExportedFile, frame: pl.DataFrame, span: Span
) -> dict[str, Any]:
    """Write one file and return what truths.json says about it."""
    exported = file.make(frame, span)
    good_rows = len(exported)
    bad_rows: dict[str, int] = {}
    if file.dirts:
        exported, bad_rows = soil(rng, exported, file.key, file.dirts, file.whole)
    path = folder / file.name
    if path.suffix == ".parquet":
        exported.write_parquet(path)
    elif path.suffix == ".json":
        exported.write_json(path)
    else:
        text = exported.write_csv(separator=file.delimiter, null_value=file.null_value)
        if file.has_broken_line:
            text = insert_broken_line(text, file.delimiter)
            bad_rows["unreadable_line"] = 1
        path.write_text(text, encoding="utf-8", newline="\n")
    return {
        "file": file.name,
        "records": file.records,
        "good_rows": good_rows,
        "bad_rows": bad_rows,
    }


def _truth_of(incident: Incident) -> dict[str, Any]:
    return {
        "name": incident.name,
        "kpi": incident.kpi,
        "dimension": incident.dimension,
        "segment": incident.segment,
        "starts": wall_time(incident.starts).isoformat(),
        "ends": None if incident.ends == NEVER else wall_time(incident.ends).isoformat(),
        "kind": incident.kind,
        "before": round(incident.before, 6),
        "after": round(incident.after, 6),
        "note": incident.note,
    }

"""Render the runbook: what each alert means, what to do first, and how it clears."""

from __future__ import annotations

from collections.abc import Sequence

from sqm.drift_alerts import drift_alert_name, drift_statistics, has_drift_alert
from sqm.kpi import BaseKpi, Rate, Stock
from sqm.rules import alert_name
from sqm.series import has_interval, needs_sample
from sqm.terms import Direction

HEADER = '<!-- Rendered by "sqm render" from metrics/. Do not edit. -->\n'

_INTRODUCTION = """
# Runbook

One section per alert, named like the alert. A KPI alert fires when the whole interval of the value
is beyond the threshold and the sample is large enough, so chance alone does not explain it; one
that ends in `Drifting` fires when its control chart shows a slow change for the worse.
`severity: page` wakes somebody; `severity: ticket` waits for working hours. While the data are
stale or the exporter is gone, KPI alerts keep quiet.
"""

# alert of pipeline_alerts.yaml -> what it means, first steps, how it clears
_PIPELINE = {
    "KpiDataStale": (
        "No run has published for 26 hours. The values shown are old and no KPI alert can fire.",
        (
            "Look at the last run in Prefect, or run `sqm run` and read what it says.",
            "A source that does not answer, a broken critical table rule and a locked warehouse "
            "are the usual reasons; each is named in the message.",
        ),
        "The next run that publishes.",
    ),
    "KpiDataMissing": (
        "The exporter runs, but has no published snapshot to show.",
        (
            "Check that the exporter is started in the project whose runs publish.",
            "Run `sqm run` if this project has never published.",
        ),
        "The first published snapshot.",
    ),
    "ExporterGone": (
        "Prometheus cannot scrape the exporter. Nothing about any KPI is known.",
        (
            "Is the process alive? `/-/healthy` answers while it is.",
            "Start it again with `sqm serve`; it shows the last published values at once.",
        ),
        "The next successful scrape.",
    ),
    "KpiSeriesVanished": (
        "A KPI that had a value an hour ago has none: its window, or one of its regions.",
        (
            "Was the KPI, its window or its dimension removed or renamed in metrics/? Then it is "
            "expected.",
            "Otherwise the last run found no records for it: look at the source and the "
            "quarantine.",
        ),
        "By itself, an hour after it began; the series coming back clears it sooner.",
    ),
    "SourceSilent": (
        "A source has brought no new record for longer than its `expected_every_hours`.",
        (
            "Ask the owner of the system whether its export runs.",
            "Check the path or query of the source in sqm.yaml.",
            "KPIs over these records look complete and are not: say so where they are used.",
        ),
        "The first run that reads a newer record.",
    ),
    "QuarantineShareHigh": (
        "More than 5 % of what a source brought was set aside, because it broke a critical rule.",
        (
            "Find the rule with the most broken rows: `sqm_validation_broken_rows`.",
            "Correct the records at the source, or the rule in expectations/ if the source is "
            "right.",
        ),
        "The first run that accepts 95 % of the records again.",
    ),
    "KpiNotReportable": (
        "So many records that could belong to a KPI are in quarantine that its value cannot be "
        "trusted: more than its `max_quarantined`. Its other alerts keep quiet meanwhile.",
        (
            "Run `sqm quarantine list`: which rule sets most of its records aside?",
            "Run `sqm quarantine explain KEY` for one of them: the row, the value, what to do.",
            "Correct the records at the source, or the rule in expectations/ if the source is "
            "right.",
        ),
        "The first run after which the share is within the limit.",
    ),
    "SnapshotLoadFailed": (
        "The exporter cannot read the current snapshot and keeps showing the one before it.",
        (
            "Read the exporter's log: it names the file and the reason.",
            "Run `sqm run`; it publishes a whole new revision.",
            "After an upgrade, restart the exporter so that both are of one release.",
        ),
        "The next snapshot that can be read.",
    ),
}


def render_runbook(kpis: Sequence[BaseKpi]) -> str:
    """The runbook: an anchor for every alert, its name in lower case."""
    alerting = sorted((kpi for kpi in kpis if kpi.alert is not None), key=alert_name)
    sections = ["## Pipeline\n", *map(_pipeline_section, _PIPELINE), "## KPIs\n"]
    for kpi in alerting:
        sections.append(_kpi_section(kpi))
        if has_drift_alert(kpi):
            sections.append(_drift_section(kpi))
    return HEADER + _INTRODUCTION + "\n" + "\n".join(sections)


def _pipeline_section(name: str) -> str:
    meaning, steps, clears = _PIPELINE[name]
    return _section(name, meaning, steps, owner="pipeline", clears=clears)


def _kpi_section(kpi: BaseKpi) -> str:
    if kpi.alert is None:
        raise ValueError(f"{kpi.name} has no alert policy")
    side = "below" if kpi.direction is Direction.HIGHER_IS_BETTER else "above"
    evidence = "The value"
    if has_interval(kpi):
        evidence = f"The whole {kpi.evidence * 100:g} % interval"
    sample = f", with at least {kpi.min_sample} cases" if needs_sample(kpi) else ""
    meaning = (
        f"**{kpi.title.en}.** {kpi.description.en} {evidence} is {side} the threshold over "
        f"`{kpi.alert.window}`{sample}, for {kpi.alert.hold_for}."
    )
    steps = [
        "Open the status page and the dashboard linked in the alert: since when, and how far?",
        f"Check that {_records(kpi)} are complete: accepted share, quarantine, silent sources.",
    ]
    names = sorted({name for grouping in kpi.groupings for name in grouping})
    if names:
        steps.append(f"Compare its segments by {', '.join(names)}: is it one of them, or all?")
    steps.append("Look at the records that count against it, and record a corrective action.")
    clears = (
        f"The interval no longer lies {side} the threshold, for {kpi.alert.hold_for}. Over a "
        "rolling window that takes days of better service."
    )
    return _section(alert_name(kpi), meaning, steps, owner=kpi.owner, clears=clears)


def _drift_section(kpi: BaseKpi) -> str:
    if kpi.alert is None:
        raise ValueError(f"{kpi.name} has no alert policy")
    is_low_bad = kpi.direction is Direction.HIGHER_IS_BETTER
    side, limit = ("below", "lower") if is_low_bad else ("above", "upper")
    statistics = drift_statistics(kpi)
    meaning = (
        f"**{kpi.title.en}: slow drift.** {statistics} of the control chart by "
        f"`{kpi.chart_window}` is beyond its {limit} limit, for {kpi.alert.hold_for}: the KPI lies "
        f"{side} the mean of the chart a little, but lastingly. No threshold need be breached, and "
        "while one is, this alert keeps quiet."
    )
    steps = [
        "Open the control chart on the dashboard linked in the alert: since when does it drift?",
        f"Check that {_records(kpi)} are complete, and that a source did not change its meaning.",
        "Ask what changed at that time: rules, staff, suppliers, products, the mix of cases.",
        "Was the change made on purpose? Name a `phase` with its reason in the KPI's file. "
        "Otherwise record a corrective action.",
    ]
    clears = (
        f"{statistics} is back within its limit, for {kpi.alert.hold_for}: some "
        f"{kpi.chart_window}s of better service, or a new phase."
    )
    return _section(drift_alert_name(kpi), meaning, steps, owner=kpi.owner, clears=clears)


def _records(kpi: BaseKpi) -> str:
    if isinstance(kpi, Rate):
        return f"`{kpi.numerator.records}` and `{kpi.denominator.records}`"
    if isinstance(kpi, Stock):
        return f"`{kpi.records}`, their ends included,"
    return f"the `{getattr(kpi, 'records', 'records')}`"


def _section(name: str, meaning: str, steps: Sequence[str], *, owner: str, clears: str) -> str:
    numbered = "\n".join(f"{number}. {step}" for number, step in enumerate(steps, 1))
    return f"### {name}\n\n{meaning}\n\n{numbered}\n\n- Owner: {owner}\n- Clears: {clears}\n"

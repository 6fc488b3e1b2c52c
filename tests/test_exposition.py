from datetime import date

import pytest
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from published import (
    complaints,
    first_time_fix,
    on_time_rate,
    open_tickets,
    repeat_visits,
    row,
    snapshot,
    time_to_restore,
)

from sqm.exposition import Exposed, metrics_of, registry_over
from sqm.series import STATUS_NUMBERS
from sqm.snapshot import Snapshot
from sqm.terms import Status


def samples(made: Snapshot, *, load_failed: bool = False) -> dict[str, list[tuple[dict, float]]]:
    """Name -> labels and value of every sample, as Prometheus would read them."""
    registry = registry_over(lambda: Exposed(metrics_of(made), load_failed=load_failed))
    found: dict[str, list[tuple[dict, float]]] = {}
    for family in parse_text(generate_latest(registry).decode()):
        for sample in family.samples:
            labels = {name: value for name, value in sample.labels.items() if value}
            found.setdefault(sample.name, []).append((labels, sample.value))
    return found


def test_a_kpi_is_one_series_with_its_companions():
    kpi = on_time_rate()
    made = snapshot([kpi], [row(kpi, 0.9275, low=0.897, high=0.949, sample_size=400)])

    found = samples(made)

    total = {"window": "rolling_28d"}
    assert found["sqm_on_time_rate_ratio"] == [(total, 0.9275)]
    assert found["sqm_on_time_rate_low"] == [(total, 0.897)]
    assert found["sqm_on_time_rate_high"] == [(total, 0.949)]
    assert found["sqm_on_time_rate_sample_size"] == [(total, 400)]
    assert found["sqm_on_time_rate_target"] == [(total, 0.95)]
    assert found["sqm_on_time_rate_warning"] == [(total, 0.92)]
    assert found["sqm_on_time_rate_critical"] == [(total, 0.90)]


def test_a_period_ends_at_midnight_of_the_projects_time_zone():
    kpi = on_time_rate()
    made = snapshot([kpi], [row(kpi, 0.9, period_end=date(2026, 10, 26))])

    found = samples(made)

    # 26 October 2026, 00:00 in Berlin: winter time began the day before, so 23:00 UTC
    [(_, seconds)] = found["sqm_on_time_rate_period_end_timestamp_seconds"]
    assert seconds == 1792969200


def test_the_total_has_empty_labels_and_segments_fill_theirs():
    kpi = on_time_rate()
    made = snapshot(
        [kpi],
        [
            row(kpi, 0.91),
            row(kpi, 0.92, by="region", segment="Coast"),
            row(kpi, 0.93, by="product", segment="TV"),
            row(kpi, 0.94, by="region,product", segment=("Coast", "TV")),
        ],
    )

    text = generate_latest(registry_over(lambda: Exposed(metrics_of(made), False))).decode()

    series = "sqm_on_time_rate_ratio"
    assert f'{series}{{product="",region="",window="rolling_28d"}} 0.91' in text
    assert f'{series}{{product="",region="Coast",window="rolling_28d"}} 0.92' in text
    assert f'{series}{{product="TV",region="",window="rolling_28d"}} 0.93' in text
    assert f'{series}{{product="TV",region="Coast",window="rolling_28d"}} 0.94' in text


def test_an_empty_segment_is_not_mistaken_for_the_total():
    kpi = on_time_rate()
    made = snapshot([kpi], [row(kpi, 0.9), row(kpi, 0.5, by="region", segment="")])

    found = samples(made)["sqm_on_time_rate_ratio"]

    assert found == [
        ({"window": "rolling_28d"}, 0.9),
        ({"window": "rolling_28d", "region": "(none)"}, 0.5),
    ]


@pytest.mark.parametrize("value", [None, float("nan"), float("inf")])
def test_what_is_not_a_number_is_not_exposed(value: float | None):
    kpi = on_time_rate()
    unknown = row(kpi, value, low=None, high=None, sample_size=0, status="no_data")

    found = samples(snapshot([kpi], [unknown]))

    assert "sqm_on_time_rate_ratio" not in found
    assert "sqm_on_time_rate_low" not in found
    assert found["sqm_on_time_rate_sample_size"] == [({"window": "rolling_28d"}, 0)]
    assert [value for _, value in found["sqm_kpi_status"]] == [5]


def test_only_the_latest_complete_period_of_each_window_is_shown():
    kpi = on_time_rate()
    made = snapshot(
        [kpi],
        [
            # as of 1 November 2026, 06:00 in Berlin: a Sunday
            row(kpi, 0.81, window="week", period_end=date(2026, 10, 19)),
            row(kpi, 0.82, window="week", period_end=date(2026, 10, 26)),
            row(kpi, 0.83, window="week", period_end=date(2026, 11, 2)),
            row(kpi, 0.84, period_end=date(2026, 10, 31)),
            row(kpi, 0.85, period_end=date(2026, 11, 1)),
            # a segment without a case in the latest period is not shown with an older one
            row(kpi, 0.86, by="region", segment="Coast", period_end=date(2026, 10, 31)),
        ],
    )

    found = samples(made)["sqm_on_time_rate_ratio"]

    assert found == [({"window": "rolling_28d"}, 0.85), ({"window": "week"}, 0.82)]


def test_the_local_date_decides_what_is_complete():
    from datetime import UTC, datetime

    kpi = on_time_rate()
    late_evening = datetime(2026, 10, 31, 23, 30, tzinfo=UTC)  # 00:30 on 1 November in Berlin
    made = snapshot([kpi], [row(kpi, 0.85, period_end=date(2026, 11, 1))], as_of=late_evening)

    assert samples(made)["sqm_on_time_rate_ratio"] == [({"window": "rolling_28d"}, 0.85)]


def test_every_status_has_a_number():
    assert STATUS_NUMBERS == {
        Status.OK: 0,
        Status.WATCH: 1,
        Status.WARNING: 2,
        Status.CRITICAL: 3,
        Status.INSUFFICIENT: 4,
        Status.NO_DATA: 5,
        Status.NO_TARGET: 6,
        Status.NOT_REPORTABLE: 7,
    }


def test_the_status_is_published_as_number_and_as_label():
    rate, tickets = on_time_rate(), open_tickets()
    made = snapshot(
        [rate, tickets],
        [
            row(rate, 0.8, by="region", segment="Coast", status="critical"),
            row(tickets, 90, low=None, high=None, window="day"),
        ],
    )

    found = samples(made)

    coast = {
        "kpi": "on_time_rate",
        "family": "field_service",
        "window": "rolling_28d",
        "region": "Coast",
    }
    tickets_of_the_day = {"kpi": "open_tickets", "family": "tickets", "window": "day"}
    assert found["sqm_kpi_status"] == [(coast, 3), (tickets_of_the_day, 0)]
    assert found["sqm_kpi_status_info"] == [
        ({**coast, "status": "critical"}, 1),
        ({**tickets_of_the_day, "status": "ok"}, 1),
    ]


def test_a_kpi_that_matures_says_whether_it_has():
    slow, quick = on_time_rate(matures_after_days=30), time_to_restore()
    made = snapshot([slow, quick], [row(slow, 0.9, is_final=False), row(quick, 3600)])

    found = samples(made)

    assert found["sqm_on_time_rate_final"] == [({"window": "rolling_28d"}, 0)]
    assert "sqm_time_to_restore_final" not in found


def test_the_control_chart_of_the_latest_complete_week():
    kpi = on_time_rate()
    limits = {"center": 0.93, "limit_low": 0.90, "limit_high": 0.96, "chart": "p"}
    week = {"window": "week", "period_end": date(2026, 10, 26)}
    before = {"window": "week", "period_end": date(2026, 10, 19)}
    made = snapshot(
        [kpi],
        [
            row(kpi, 0.91),
            row(kpi, 0.89, **before, **limits, signal="we1"),
            row(kpi, 0.92, **week, **limits),
            row(kpi, 0.89, **week, **limits, by="region", segment="Coast", signal="we1,we4"),
            row(kpi, 0.50, **week, by="region", segment="Metro"),  # too few weeks for limits
        ],
    )

    found = samples(made)

    total, coast = {"window": "week"}, {"window": "week", "region": "Coast"}
    assert found["sqm_on_time_rate_center"] == [(total, 0.93), (coast, 0.93)]
    assert found["sqm_on_time_rate_limit_low"] == [(total, 0.90), (coast, 0.90)]
    assert found["sqm_on_time_rate_limit_high"] == [(total, 0.96), (coast, 0.96)]
    assert found["sqm_on_time_rate_signal"] == [(total, 0), (coast, 1)]


DRIFTING = {"window": "week", "ewma": 0.87, "ewma_low": 0.874, "ewma_high": 0.896,
            "cusum_high": 0.0, "cusum_low": 5.25}  # fmt: skip


def test_average_and_sums_are_series_where_the_kpi_has_them():
    kpi = repeat_visits()
    week_before = DRIFTING | {"period_end": date(2026, 10, 19), "ewma": 0.9}
    made = snapshot(
        [kpi],
        [
            row(kpi, 0.9, **week_before),
            row(kpi, None, **DRIFTING | {"period_end": date(2026, 10, 26)}),
            row(kpi, 0.9),  # another window than the chart's
        ],
    )

    found = samples(made)

    total = {"window": "week"}
    assert found["sqm_repeat_visits_ewma"] == [(total, 0.87)]
    assert found["sqm_repeat_visits_ewma_low"] == [(total, 0.874)]
    assert found["sqm_repeat_visits_ewma_high"] == [(total, 0.896)]
    assert found["sqm_repeat_visits_cusum_high"] == [(total, 0)]
    assert found["sqm_repeat_visits_cusum_low"] == [(total, 5.25)]


def test_a_statistic_that_is_not_chosen_has_no_series():
    average_only, neither = first_time_fix(), on_time_rate()
    rows = [row(kpi, 0.9, **DRIFTING) for kpi in (average_only, neither)]

    found = samples(snapshot([average_only, neither], rows))

    assert {name for name in found if "ewma" in name or "cusum" in name} == {
        "sqm_first_time_fix_ewma",
        "sqm_first_time_fix_ewma_low",
        "sqm_first_time_fix_ewma_high",
    }


def test_a_kpi_without_a_chart_has_no_series_of_one():
    kpi = on_time_rate(chart={"kind": "none"})

    text = generate_latest(
        registry_over(lambda: Exposed(metrics_of(snapshot([kpi], [row(kpi, 0.9)])), False))
    ).decode()

    assert "sqm_on_time_rate_center" not in text
    assert "sqm_on_time_rate_signal" not in text


def test_a_dimension_whose_label_is_taken_gets_another():
    kpi = on_time_rate(dimensions=["service"], alert=None)
    made = snapshot([kpi], [row(kpi, 0.9, by="service", segment="mail")])

    assert samples(made)["sqm_on_time_rate_ratio"] == [
        ({"window": "rolling_28d", "by_service": "mail"}, 0.9)
    ]


def test_the_pipeline_reports_about_itself():
    kpi = on_time_rate()
    made = snapshot([kpi], [row(kpi, 0.9)], revision=7)

    found = samples(made)

    assert found["sqm_last_success_timestamp_seconds"] == [({}, 1793509320)]
    assert found["sqm_as_of_timestamp_seconds"] == [({}, 1793509200)]
    assert found["sqm_last_run_duration_seconds"] == [({}, 42)]
    assert found["sqm_snapshot_revision"] == [({}, 7)]
    assert found["sqm_snapshot_load_failed"] == [({}, 0)]
    assert found["sqm_series"] == [({}, 10)]
    assert found["sqm_records"][:3] == [
        ({"source": "orders", "records": "jobs", "state": "pulled"}, 1000),
        ({"source": "orders", "records": "jobs", "state": "accepted"}, 990),
        ({"source": "orders", "records": "jobs", "state": "quarantined"}, 10),
    ]
    assert found["sqm_source_last_record_timestamp_seconds"][0] == (
        {"source": "orders"},
        1793502000,
    )
    assert found["sqm_source_expected_seconds"][0] == ({"source": "orders"}, 86400)
    rule = {"records": "jobs", "rule": "due_after_opened", "severity": "critical"}
    assert found["sqm_validation_broken_rows"] == [(rule, 10)]
    assert found["sqm_validation_passed"] == [(rule, 0)]
    assert found["sqm_build_info"][0][1] == 1


def test_help_says_title_and_unit():
    kpi = time_to_restore()
    made = snapshot([kpi], [row(kpi, 3600)])

    text = generate_latest(registry_over(lambda: Exposed(metrics_of(made), False))).decode()

    assert "# HELP sqm_time_to_restore_seconds Time to restore (seconds)\n" in text
    assert "# HELP sqm_time_to_restore_low Time to restore: lower end of the interval\n" in text


def test_any_text_in_a_segment_survives_both_formats():
    kpi = on_time_rate()
    name = 'East "A"\\B\n中部'
    made = snapshot([kpi], [row(kpi, 0.9, by="region", segment=name)])
    registry = registry_over(lambda: Exposed(metrics_of(made), False))

    plain = list(parse_text(generate_latest(registry).decode()))
    openmetrics = list(parse_openmetrics(generate_openmetrics(registry).decode()))

    for families in (plain, openmetrics):
        [family] = [f for f in families if f.name == "sqm_on_time_rate_ratio"]
        assert [sample.labels["region"] for sample in family.samples] == [name]


def test_no_series_is_exposed_twice():
    kpis = [on_time_rate(), time_to_restore(), open_tickets(), complaints()]
    rows = [row(kpi, 1) for kpi in kpis] + [row(kpis[0], 1, by="region", segment="Coast")]
    made = snapshot(kpis, rows)

    names = [
        (sample.name, tuple(sorted(sample.labels.items())))
        for metric in registry_over(lambda: Exposed(metrics_of(made), False)).collect()
        for sample in metric.samples
    ]

    assert len(names) == len(set(names))


def test_only_kpis_with_a_limit_say_whether_they_can_be_reported():
    limited, free = on_time_rate(max_quarantined=0.02), open_tickets()
    made = snapshot(
        [limited, free],
        [
            row(limited, 0.8, status="not_reportable"),
            row(limited, 0.8, by="region", segment="Coast"),
            row(free, 90, low=None, high=None),
        ],
    )

    found = samples(made)

    assert found["sqm_on_time_rate_not_reportable"] == [
        ({"window": "rolling_28d"}, 1.0),
        ({"window": "rolling_28d", "region": "Coast"}, 0.0),
    ]
    assert "sqm_open_tickets_not_reportable" not in found

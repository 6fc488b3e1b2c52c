"""From a value in a snapshot to a message in somebody's inbox, through real servers."""

import time
from datetime import UTC, datetime
from pathlib import Path

from programs import wait_for
from published import on_time_rate, publish, row

FAST = on_time_rate(alert={"by": ["region"], "for": "1s"})
GOOD = {"low": 0.95, "high": 0.99, "status": "ok"}
BAD = {"low": 0.80, "high": 0.87, "status": "critical"}
SO_SO = {"low": 0.89, "high": 0.915, "status": "warning"}


def now() -> datetime:
    return datetime.now(UTC)


def test_a_breach_pages_its_owner_and_a_recovery_clears_it(tmp_path: Path, monitor, webhook):
    publish(tmp_path / "var", [FAST], [row(FAST, 0.97, **GOOD)], published_at=now())
    monitored = monitor([FAST], tmp_path / "var")
    wait_for(lambda: monitored.query("sqm_on_time_rate_ratio") or None, "scraped value")

    changed = time.monotonic()
    publish(monitored.state, [FAST], [row(FAST, 0.84, **BAD)], published_at=now())
    fired, alert = wait_for(lambda: webhook.first("firing"), "page")
    recovered = time.monotonic()
    publish(monitored.state, [FAST], [row(FAST, 0.97, **GOOD)], published_at=now())
    resolved, _ = wait_for(lambda: webhook.first("resolved"), "resolved message")

    print(
        f"breach to page {fired - changed:.2f} s, recovery to message {resolved - recovered:.2f} s"
    )
    assert alert["receiver"] == "page-field-service"
    assert alert["labels"] == {
        "alertname": "OnTimeRateBelowTarget",
        "service": "sqm",
        "kpi": "on_time_rate",
        "family": "field_service",
        "owner": "field-service",
        "window": "rolling_28d",
        "severity": "page",
        "threshold": "critical",
        "scope": "total",
        "job": "sqm",
        "instance": alert["labels"]["instance"],
        "project": "test",
    }
    assert alert["annotations"]["description"] == (
        "84% over rolling_28d\n"
        "95 % interval 80% to 87%, n = 400\n"
        "critical threshold 90%\n"
        "target 95%"
    )
    assert fired - changed < 15
    assert resolved - recovered < 15


def test_a_warning_is_a_ticket_and_hides_behind_a_page(tmp_path: Path, monitor, webhook):
    def rows(total: dict, coast: dict) -> list[dict]:
        return [
            row(FAST, 0.9, **total),
            row(FAST, 0.9, by="region", segment="Coast", **coast),
        ]

    publish(tmp_path / "var", [FAST], rows(GOOD, SO_SO), published_at=now())
    monitored = monitor([FAST], tmp_path / "var")
    _, ticket = wait_for(lambda: webhook.first("firing", region="Coast"), "ticket")
    publish(monitored.state, [FAST], rows(BAD, SO_SO), published_at=now())
    _, page = wait_for(lambda: webhook.first("firing", scope="total"), "page")

    def inhibited() -> bool | None:
        return any(alert["status"]["inhibitedBy"] for alert in monitored.alerts()) or None

    assert ticket["receiver"] == "ticket-field-service"
    assert page["receiver"] == "page-field-service"
    assert wait_for(inhibited, "ticket that keeps quiet")


def test_nobody_is_paged_about_stale_data(tmp_path: Path, monitor, webhook):
    long_ago = datetime(2026, 1, 1, tzinfo=UTC)
    publish(tmp_path / "var", [FAST], [row(FAST, 0.84, **BAD)], published_at=long_ago)
    monitored = monitor([FAST], tmp_path / "var")
    wait_for(lambda: monitored.query("sqm_on_time_rate_ratio") or None, "scraped value")

    time.sleep(5)

    assert monitored.query("ALERTS") == []
    assert webhook.received == []

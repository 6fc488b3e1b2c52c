import re
from datetime import date, timedelta
from html.parser import HTMLParser

import pytest
from click.testing import CliRunner
from projects import SETTINGS
from snapshots import (
    AS_OF,
    OCTOBER,
    broken_rule,
    make_kpi,
    make_snapshot,
    on_time_rows,
    row,
    source,
)

from sqm.cli import cli
from sqm.review import render_board, render_review
from sqm.review.cells import distance_cell, dot_plot
from sqm.review.charts import is_drawn, kpi_chart, value_range
from sqm.review.formats import JOINER, style_of
from sqm.review.readings import Reading, unbroken_since
from sqm.review.segments import Mark, compare
from sqm.review.svg import Label, nice_ticks, spread
from sqm.review.texts import STATUSES, TEXTS
from sqm.review.wording import Words, status_sentence
from sqm.terms import Status

NOW = AS_OF + timedelta(minutes=8)
EN, ZH = Words("en"), Words("zh")
VOID = {"meta", "br", "path", "rect", "circle", "link", "img", "hr"}


class Page(HTMLParser):
    """A page read back: balanced tags, identifiers, headings and plain text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.headings: list[int] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.tags.append((tag, values))
        if "id" in values:
            self.ids.append(values["id"])
        if re.fullmatch(r"h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.text += data


def plain(text: str) -> str:
    """The text without joiners, with ordinary spaces."""
    return re.sub(r"\s+", " ", text.replace(JOINER, ""))


def reading(value: float | None = 0.923, **more) -> Reading:
    facts = {
        "period_start": OCTOBER,
        "period_end": date(2026, 11, 1),
        "segment": "",
        "numerator": None,
        "denominator": 11832.0,
        "value": value,
        "low": 0.918,
        "high": 0.928,
        "sample_size": 11832,
        "status": Status.CRITICAL,
        "is_final": True,
        "reason": "",
        "target": 0.95,
        "warning": 0.94,
        "critical": 0.93,
    }
    return Reading(**{**facts, **more})


def sentence(words: Words, value: Reading | None, **keys) -> str:
    kpi = make_kpi(**keys)
    return plain(status_sentence(kpi, value, style_of(kpi, [], "CNY", words.language), words))


def on_time():
    return make_snapshot([make_kpi()], on_time_rows())


# ---- sentences


def test_a_critical_value_is_told_with_its_interval_sample_and_threshold():
    assert sentence(EN, reading()) == (
        "On-time completion is 92.3% (95% interval 91.8–92.8%, n 11,832), target 95.0%."
        " The whole interval is beyond the critical threshold of 93.0%."
    )
    assert sentence(ZH, reading()) == (
        "按时完成率为92.3%（95%置信区间91.8%～92.8%，样本量11,832），目标95.0%。整个区间越过严重阈值93.0%。"
    )


@pytest.mark.parametrize(
    ("value", "english", "chinese"),
    [
        pytest.param(
            reading(0.945, status=Status.WATCH, sample_size=400, low=0.918, high=0.963),
            "On-time completion is 94.5%, beyond its target of 95.0%;"
            " with n 400 chance is not excluded.",
            "按时完成率为94.5%，未达目标95.0%；样本量400，不能排除偶然。",
            id="watch",
        ),
        pytest.param(
            reading(0.945, status=Status.WATCH, sample_size=400, low=0.935, high=0.949),
            "On-time completion is 94.5% (95% interval 93.5–94.9%, n 400), beyond its target of"
            " 95.0%; no threshold is shown to be passed.",
            "按时完成率为94.5%（95%置信区间93.5%～94.9%，样本量400），未达目标95.0%；尚无证据越过阈值。",
            id="watch, the target is shown to be missed",
        ),
        pytest.param(
            reading(0.961, status=Status.OK),
            "On-time completion is on target: 96.1% (target 95.0%).",
            "按时完成率达标：96.1%（目标95.0%）。",
            id="ok",
        ),
        pytest.param(
            reading(0.9, status=Status.INSUFFICIENT, sample_size=12),
            "On-time completion: 12 cases, at least 50 are needed to judge.",
            "按时完成率：12例，至少需要50例方可判定。",
            id="insufficient",
        ),
        pytest.param(
            reading(0.9, status=Status.NOT_REPORTABLE, aside=31, worst=0.85, best=0.93),
            "On-time completion cannot be reported: more records in quarantine could belong to "
            "this period (31) than its limit allows.",
            "按时完成率不可报告：31条被隔离的记录可能属于该期，超过其限度。",
            id="not reportable",
        ),
        pytest.param(
            reading(None, status=Status.NO_DATA, denominator=None, reason="no_records"),
            "On-time completion has no value: no records in the period. It is missing, not zero.",
            "按时完成率无值：期内无记录。系缺失，并非为零。",
            id="missing",
        ),
        pytest.param(
            reading(None, status=Status.NO_DATA, denominator=0.0, reason="no records to divide by"),
            "On-time completion is not defined: no records to divide by."
            " It is neither zero nor on target.",
            "按时完成率无定义：没有可作分母的记录。并非为零，亦非达标。",
            id="nothing to divide by",
        ),
        pytest.param(
            reading(0.9, status=Status.NO_TARGET, target=None),
            "On-time completion is 90.0% (95% interval 91.8–92.8%, n 11,832); no target was set.",
            "按时完成率为90.0%（95%置信区间91.8%～92.8%，样本量11,832）；未设目标。",
            id="no target",
        ),
    ],
)
def test_every_state_has_its_sentence(value, english, chinese):
    assert sentence(EN, value, min_sample=50) == english
    assert sentence(ZH, value, min_sample=50) == chinese


def test_a_period_that_was_never_computed_is_told_as_missing():
    assert sentence(EN, None) == (
        "On-time completion has no value: nothing was computed for this period."
        " It is missing, not zero."
    )


def test_what_is_counted_in_full_has_no_interval():
    backlog = reading(75.0, low=75.0, high=75.0, target=40.0, critical=70.0)
    keys = {
        "kind": "point_in_time",
        "unit": "records",
        "direction": "lower_is_better",
        "targets": [],
    }

    assert sentence(EN, backlog, **keys) == (
        "On-time completion is 75 (full count), target 40."
        " It is beyond the critical threshold of 70."
    )


PER_1000 = {
    "kind": "rate",
    "unit": "per_1000",
    "direction": "lower_is_better",
    "title": {"en": "Complaints per 1000 jobs", "zh": "每千单投诉数"},
    "targets": [],
}
EXPOSURE = {"records": "exposure", "at": "as_of", "sum": "units"}
SUMMED = {"records": "outages", "at": "ended_at", "sum": "seconds"}


def rate(events: float, jobs: int, **more) -> Reading:
    facts = {"low": 3.4, "high": 6.8, "target": 4.0, "warning": 8.0, "critical": 9.0}
    facts |= {"numerator": events, "denominator": jobs, "sample_size": jobs}
    facts |= {"value": 1000 * events / jobs, "status": Status.WATCH}
    return reading(**{**facts, **more})


def test_a_rate_rests_on_its_events_and_not_on_its_exposure():
    few = rate(34, 6977)

    assert sentence(EN, few, **PER_1000) == (
        "Complaints per 1000 jobs is 4.9, beyond its target of 4.0;"
        " with 34 complaints on 6,977 jobs chance is not excluded."
    )
    assert sentence(ZH, few, **PER_1000) == (
        "每千单投诉数为4.9，未达目标4.0；投诉34，作业6,977，不能排除偶然。"
    )


def test_one_event_is_called_an_event():
    one = rate(1, 200, status=Status.CRITICAL, low=4.5, target=3.0, critical=4.0)

    assert sentence(EN, one, **PER_1000) == (
        "Complaints per 1000 jobs is 5.0 (95% interval 4.5–6.8, 1 event on 200 jobs), target 3.0."
        " The whole interval is beyond the critical threshold of 4.0."
    )
    assert "（95%置信区间4.5～6.8，1起事件，作业200）" in sentence(ZH, one, **PER_1000)


def test_a_summed_exposure_is_left_out():
    lines = rate(286, 3462633, value=4.9, status=Status.NO_TARGET)

    assert sentence(EN, lines, **PER_1000, denominator=EXPOSURE) == (
        "Complaints per 1000 jobs is 4.9 (95% interval 3.4–6.8, 286 complaints); no target was set."
    )


def test_summed_amounts_have_no_n_but_may_hang_on_few_events():
    keys = {**PER_1000, "numerator": SUMMED, "denominator": EXPOSURE}
    minutes = rate(9.5e6, 3815884, value=4.9)

    assert sentence(EN, minutes, **keys) == (
        "Complaints per 1000 jobs is 4.9, beyond its target of 4.0;"
        " a few large events weigh heavily, chance is not excluded."
    )
    assert sentence(ZH, minutes, **keys) == (
        "每千单投诉数为4.9，未达目标4.0；少数大事件影响很大，不能排除偶然。"
    )
    nothing = rate(0, 3815884, low=0.0, high=0.0, status=Status.NO_TARGET)
    assert "(no interval)" in sentence(EN, nothing, **keys)


@pytest.mark.parametrize(
    ("more", "english", "chinese"),
    [
        pytest.param({}, "120 jobs, at least 500 are", "：作业120，至少需要500", id="counted"),
        pytest.param(
            {"denominator": EXPOSURE},
            "120 units of exposure, at least 500 are",
            "：归一化单元120，至少需要500",
            id="summed",
        ),
    ],
)
def test_a_rate_is_judged_from_so_much_exposure(more, english, chinese):
    few = rate(3, 120, status=Status.INSUFFICIENT)

    assert english in sentence(EN, few, **PER_1000, min_sample=500, **more)
    assert chinese in sentence(ZH, few, **PER_1000, min_sample=500, **more)


def rates_snapshot():
    facts = {"numerator": 34.0, "denominator": 6977.0, "sample_size": 6977}
    summed = {"numerator": 9.5e6, "denominator": 3815884.0, "sample_size": 3815884}
    levels = {"target": 4.0, "warning": 8.0, "critical": 9.0}
    keys = {**PER_1000, "family": "complaints"}
    kpis = [
        make_kpi("complaint_rate", **keys),
        make_kpi("downtime", **{**keys, "numerator": SUMMED, "denominator": EXPOSURE}),
    ]
    rows = [
        row("complaint_rate", "month", OCTOBER, 4.87, **facts, **levels),
        row("complaint_rate", "week", date(2026, 10, 19), 4.87, **facts, **levels),
        row("downtime", "month", OCTOBER, 5.5, **summed, **levels),
        row("downtime", "week", date(2026, 10, 19), 5.5, **summed, **levels),
    ]
    return make_snapshot(kpis, rows)


def test_in_tables_the_n_of_a_rate_is_its_events():
    board = render_board(rates_snapshot(), NOW, "en")
    review = render_review(rates_snapshot(), OCTOBER, "en")

    assert '<td class="num opt" title="on 6,977 jobs">34</td>' in board
    assert '<td class="num opt" title="on 3,815,884 units of exposure"></td>' in board
    assert '<td class="num soft" title="on 6,977 jobs">34</td>' in review
    assert "n: the cases; of a rate, its events" in board
    assert "n: the cases; of a rate, its events" in review
    assert '<th scope="col" class="num">Events / jobs</th>' in review
    assert '<td class="num">34 / 6,977</td>' in review
    assert '<th scope="col" class="num">Units of exposure</th>' in review
    assert '<td class="num">3,815,884</td>' in review


def test_the_bars_under_a_rate_say_what_they_count():
    html = render_review(rates_snapshot(), OCTOBER, "en")

    assert ">complaints per week</text>" in html
    assert "Bars: complaints, on which the rate rests." in html
    assert ">exposure per week</text>" in html
    assert "Bars: exposure, not cases." in html
    assert ">每周投诉</text>" in render_review(rates_snapshot(), OCTOBER, "zh")


def test_every_text_has_both_languages_and_the_same_values_in_them():
    for key, (english, chinese) in TEXTS.items():
        assert english, key
        assert chinese, key
        assert set(re.findall(r"{\w+}", english)) >= set(re.findall(r"{\w+}", chinese)), key
    assert set(STATUSES) == set(Status)


# ---- the review


@pytest.fixture(scope="module", params=["en", "zh"])
def review(request) -> str:
    kpis = [
        make_kpi(),
        make_kpi("nps", "net_score", unit="score", targets=[], title={"en": "Net score"}),
        make_kpi("complaints", "count", unit="records", targets=[], title={"en": "Complaints"}),
    ]
    free = {"target": None, "warning": None, "critical": None, "status": "no_target"}
    rows = on_time_rows()
    rows.append(row("nps", "month", OCTOBER, 31.0, low=26.0, high=36.0, **free))
    rows.append(row("complaints", "month", OCTOBER, 0.0, low=None, high=None, **free))
    rules = (broken_rule("completed_at is not before ordered_at"),)
    return render_review(make_snapshot(kpis, rows, rules=rules), OCTOBER, request.param)


def test_the_review_has_a_section_for_every_kpi(review):
    page = Page(review)

    assert [i for i in page.ids if i.startswith("kpi-")] == [
        "kpi-on_time_rate",
        "kpi-nps",
        "kpi-complaints",
    ]


def test_the_review_stands_alone(review):
    page = Page(review)

    assert "script" not in {tag for tag, _ in page.tags}
    assert "url(http" not in review
    assert "@import" not in review
    for tag, attributes in page.tags:
        assert "src" not in attributes, tag
        assert tag not in ("link", "img", "iframe", "object")


def test_the_review_is_well_formed(review):
    page = Page(review)

    assert page.open == []
    assert len(page.ids) == len(set(page.ids))
    assert page.headings[0] == 1
    assert all(b - a <= 1 for a, b in zip(page.headings, page.headings[1:], strict=False))


def test_every_picture_is_named_or_hidden(review):
    for tag, attributes in Page(review).tags:
        if tag == "svg":
            assert attributes.get("aria-label") or attributes.get("aria-hidden") == "true"


def test_the_review_says_what_it_rests_on():
    text = plain(Page(render_review(on_time(), OCTOBER, "en")).text)

    assert "October 2026" in text
    assert "Data cut-off 2 Nov 2026 06:30 (UTC+8) · run run-7" in text
    assert "Synthetic data: everything is invented." in text
    assert "994 of 1,000 records checked in this run were accepted (99.4%)" in text


def test_the_finding_compares_with_the_month_before():
    text = plain(Page(render_review(on_time(), OCTOBER, "en")).text)

    assert "critical threshold of 93.0%. Sep: 96.1% (−3.8 pp)." in text


def test_the_outlying_segment_is_named_in_the_head():
    text = plain(Page(render_review(on_time(), OCTOBER, "en")).text)

    assert "Only Coast is shown to be below target" in text
    assert "Below target in 4 of the last 5 weeks" in text


def test_zero_is_a_number_and_not_a_gap(review):
    assert re.search(r'class="num strong"><span>0</span>', review)


def test_an_unknown_month_has_no_data_but_a_page():
    text = plain(Page(render_review(on_time(), date(2020, 1, 1), "en")).text)

    assert "nothing was computed for this period" in text
    assert "There is no value to show" in text


def test_a_month_that_goes_on_is_said_to_be_provisional():
    text = plain(Page(render_review(on_time(), date(2026, 11, 1), "en")).text)

    assert "This month is not over" in text


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize(
    "rows",
    [
        pytest.param([], id="no values"),
        pytest.param([row("on_time_rate", "month", OCTOBER, 0.96)], id="one period"),
        pytest.param(
            [row("on_time_rate", "month", OCTOBER - timedelta(days=d), None) for d in (0, 30)],
            id="nothing but nulls",
        ),
        pytest.param(
            [row("on_time_rate", "week", date(2026, 10, 5), 1.0, low=1.0, high=1.0)],
            id="weeks only",
        ),
        pytest.param([row("on_time_rate", "month", OCTOBER, float("nan"))], id="not a number"),
    ],
)
def test_sparse_kpis_render_on_both_pages(rows, language):
    snapshot = make_snapshot([make_kpi(), make_kpi("bare", targets=[])], rows)

    for html in (render_review(snapshot, OCTOBER, language), render_board(snapshot, NOW, language)):
        page = Page(html)
        assert page.open == []
        assert "nan" not in page.text.lower()
        assert "None" not in page.text


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_project_without_kpis_or_sources_renders(language):
    snapshot = make_snapshot([], [], sources=())

    assert Page(render_review(snapshot, OCTOBER, language)).open == []
    assert Page(render_board(snapshot, NOW, language)).open == []


def test_text_from_data_never_becomes_markup():
    evil = "</style><b>x</b>"
    kpi = make_kpi(title={"en": evil}, owner=evil, numerator=evil)
    rows = on_time_rows()
    for line in rows:
        if line["by"]:
            line["segment"] = f"{line['segment']}{evil}"
    snapshot = make_snapshot(
        [kpi], rows, project=evil, note=evil, rules=(broken_rule(evil),), run_id=evil
    )

    for html in (render_review(snapshot, OCTOBER, "en"), render_board(snapshot, NOW, "en")):
        assert "<b>x" not in html
        assert html.count("</style>") == 1


def test_a_script_is_not_an_address():
    snapshot = make_snapshot([], [], links={"grafana": "javascript:alert(1)"})

    assert "javascript" not in render_board(snapshot, NOW, "en")


# ---- the board


def test_the_board_shows_the_latest_complete_period_in_local_time():
    # 31 October is over at 22:30 UTC on 1 November, which is 2 November in Shanghai
    text = plain(Page(render_board(on_time(), NOW, "en")).text)

    assert "On-time completion: 92.3%, target ≥ 95.0%" in text
    assert "31 Oct 2026" in text


def test_the_board_starts_with_what_is_worst():
    kpis = [make_kpi("late_rate", title={"en": "Late"}), make_kpi()]
    rows = [*on_time_rows(), row("late_rate", "month", OCTOBER, 0.935, status="warning")]
    html = render_board(make_snapshot(kpis, rows), NOW, "en")
    heads = re.findall(r"<h3>(.*?):", html)

    assert heads == ["On-time completion", "Late"]


def test_a_missing_value_leads_to_the_source_that_is_late():
    kpi = make_kpi("eri", records="returns", title={"en": "Early returns"})
    snapshot = make_snapshot(
        [kpi],
        [row("eri", "month", OCTOBER, None, denominator=None)],
        sources=(source("returns_system", "returns", hours_old=72),),
    )
    text = plain(Page(render_board(snapshot, NOW, "en")).text)

    assert "Early returns: no data for October 2026" in text
    assert "returns_system has delivered nothing since 30 Oct 2026 06:30" in text
    assert "Yes, except what depends on returns_system." in text


def test_a_missing_value_from_a_punctual_source_is_not_urgent():
    snapshot = make_snapshot([make_kpi()], [row("on_time_rate", "month", OCTOBER, None)])
    text = plain(Page(render_board(snapshot, NOW, "en")).text)

    assert "Nothing is beyond a threshold with evidence, and no source is late." in text


def test_moments_without_a_zone_are_in_utc():
    late = source("work_orders", "jobs", hours_old=72)
    naive = late.model_copy(update={"last_record_at": AS_OF.replace(tzinfo=None)})
    html = render_board(make_snapshot([], [], sources=(naive,)), NOW, "en")

    assert "1 of 1 delivered" in html


def test_an_old_snapshot_is_not_called_todays():
    text = plain(Page(render_board(on_time(), NOW + timedelta(days=3), "en")).text)

    assert "Not as today’s: they were computed 3 d ago." in text


def test_the_board_links_to_the_review_the_series_and_grafana():
    names = ["2026-09.html", "2026-10.html", "2026-10.zh.html"]
    html = render_board(on_time(), NOW, "en", names)

    assert '<a href="/reviews/2026-10.html">October review</a>' in html
    assert 'href="/reviews/2026-10.html#kpi-on_time_rate">in the review</a>' in html
    chinese = render_board(on_time(), NOW, "zh", names)
    assert 'href="/reviews/2026-10.zh.html">10月评审' in chinese.replace(JOINER, "")
    assert 'href="/metrics"' in html
    assert 'href="http://localhost:3000"' in html


def test_without_a_review_there_is_no_link_to_one():
    html = render_board(on_time(), NOW, "en", ["2026-13.html", "notes.html"])

    assert "/reviews/" not in html
    assert 'href="#on_time_rate">in the table</a>' in html


def test_the_newest_review_is_linked_whatever_its_language():
    html = render_board(on_time(), NOW, "en", ["2025-12.zh.html", "2025-11.html"])

    assert '<a href="/reviews/2025-12.zh.html">December\xa02025 review</a>' in html


def test_every_row_of_the_table_can_be_linked_to():
    kpis = [make_kpi("all"), make_kpi()]
    page = Page(render_board(make_snapshot(kpis, on_time_rows()), NOW, "en"))

    assert [values["id"] for tag, values in page.tags if tag == "tr" and "id" in values] == [
        "all",
        "on_time_rate",
    ]
    assert len(page.ids) == len(set(page.ids))


def test_the_served_board_links_to_reviews_written_while_it_runs(tmp_path, monkeypatch):
    pages = []

    class Server:
        def __init__(self, state, reviews, board, host, port) -> None:
            self.reviews, self.board = reviews, board

        def serve_forever(self) -> None:
            pages.append(self.board(on_time()))
            self.reviews.mkdir(parents=True)
            (self.reviews / "2026-10.html").touch()
            pages.append(self.board(on_time()))

        def server_close(self) -> None:
            pass

    monkeypatch.setattr("sqm.serve.make_server", Server)
    (tmp_path / "sqm.yaml").write_text(SETTINGS, encoding="utf-8")
    result = CliRunner().invoke(cli, ["--project", str(tmp_path), "serve"])

    assert result.exit_code == 0, result.output
    assert "/reviews/2026-10.html" not in pages[0]
    assert "/reviews/2026-10.html" in pages[1]


# ---- segments of the grouping that alerts


def segmented(total: str = "watch", more: tuple[tuple[str, float, str], ...] = ()):
    """On-time completion that alerts by region; Coast is critical since October."""
    kpi = make_kpi(alert={"window": "month", "by": ["region"]})
    rows = on_time_rows()
    for line in rows:
        if line["window"] == "month" and line["period_start"] == OCTOBER and not line["by"]:
            line["status"] = total
        if line["segment"] == "Coast":
            line |= {"status": "critical", "sample_size": 958}
    coast = {"by": "region", "segment": "Coast"}
    rows.append(row("on_time_rate", "month", date(2026, 9, 1), 0.95, **coast))
    for name, value, status in more:
        where = {"by": "region", "segment": name}
        rows.append(row("on_time_rate", "month", OCTOBER, value, status=status, **where))
    return make_snapshot([kpi], rows)


def board_of(snapshot, language: str = "en") -> str:
    return plain(Page(render_board(snapshot, NOW, language)).text)


def review_of(snapshot, language: str = "en") -> str:
    return plain(Page(render_review(snapshot, OCTOBER, language)).text)


def test_the_board_lists_a_segment_off_target_though_the_whole_is_not():
    text = board_of(segmented())

    assert "On-time completion, Coast: 74.0%, target ≥ 95.0%" in text
    assert (
        "95% interval 72.0–76.0%, n 958. The whole interval is beyond the critical threshold"
        " of 93.0%." in text
    )
    assert "Critical since October 2026" in text
    assert "owner: field-delivery" in text
    assert "1 Watch 1 segment critical" in text
    assert "On-time completionCoast critical" in text
    assert "On-time completion: 92.3%" not in text


def test_the_board_lists_a_segment_in_chinese():
    text = board_of(segmented(), "zh")

    assert "按时完成率（Coast）：74.0%，目标≥ 95.0%" in text
    assert "95%置信区间72.0%～76.0%，样本量958。整个区间越过严重阈值93.0%。" in text
    assert "自2026年10月起严重" in text
    assert "1 关注 1 个分段严重" in text
    assert "按时完成率Coast：严重" in text


def test_a_whole_off_target_is_listed_once_and_names_its_segments():
    snapshot = segmented("critical", (("Lakes", 0.935, "warning"),))

    html = render_board(snapshot, NOW, "en")

    assert re.findall(r"<h3>(.*?):", html) == ["On-time completion"]
    assert (
        "By region, off target with evidence: Coast 74.0% (critical) and Lakes 93.5% (warning)."
        in board_of(snapshot)
    )
    assert "按区域，有证据未达标：Coast 74.0%（严重）和Lakes 93.5%（警告）。" in board_of(
        snapshot, "zh"
    )
    assert "2 segments" not in board_of(snapshot)
    assert "1 segment critical 1 segment warning" in board_of(snapshot)
    assert "Coast criticalLakes warning" in board_of(snapshot)


def test_a_critical_segment_comes_before_a_whole_that_is_only_warned_of():
    late = make_kpi("late_rate", title={"en": "Late"})
    snapshot = segmented()
    rows = [
        *snapshot.values.to_dicts(),
        row("late_rate", "month", OCTOBER, 0.935, status="warning"),
    ]
    html = render_board(make_snapshot([late, *snapshot.manifest.kpis], rows), NOW, "en")

    assert re.findall(r"<h3>(.*?):", html) == ["On-time completion, Coast", "Late"]


def test_of_many_segments_three_are_listed_and_the_rest_is_named():
    more = [("Hills", 0.91, "critical"), ("Lakes", 0.92, "critical"), ("Metro 2", 0.93, "warning")]
    snapshot = segmented("ok", tuple(more))
    html = render_board(snapshot, NOW, "en")

    assert re.findall(r"<h3>(.*?):", html) == [
        "On-time completion, Coast",
        "On-time completion, Hills",
        "On-time completion, Lakes",
    ]
    assert "Also off target with evidence: Metro 2 93.0% (warning)." in plain(Page(html).text)


def test_since_when_a_segment_is_off_target_in_rolling_days():
    kpi = make_kpi(windows=["rolling_28d"], alert={"window": "rolling_28d", "by": ["region"]})
    coast = {"by": "region", "segment": "Coast"}
    rows = []
    for n, status in enumerate(["warning", "critical", "critical"], start=29):
        start = date(2026, 10, 1) + timedelta(days=n - 29)
        ends = {"period_end": start + timedelta(days=28)}
        rows.append(row("on_time_rate", "rolling_28d", start, 0.96, **ends))
        rows.append(row("on_time_rate", "rolling_28d", start, 0.9, **ends, **coast, status=status))
    text = board_of(make_snapshot([kpi], rows))

    assert "On-time completion, Coast: 90.0%, target ≥ 95.0%" in text
    assert "Critical since 30 Oct 2026" in text


def test_a_kpi_of_rolling_windows_alone_is_drawn():
    ends = {"period_end": date(2026, 11, 1)}
    rows = [row("on_time_rate", "rolling_28d", date(2026, 10, 4), 0.96, **ends)]
    snapshot = make_snapshot([make_kpi(windows=["rolling_28d"])], rows)

    assert "Rolling values." in review_of(snapshot)
    assert "滚动数值。" in review_of(snapshot, "zh")
    assert "1 periods, 96.0% to 96.0%" in plain(render_board(snapshot, NOW, "en"))


def test_a_grouping_that_does_not_alert_is_not_listed():
    snapshot = segmented()
    quiet = make_snapshot([make_kpi(alert={"window": "month"})], snapshot.values.to_dicts())

    assert "Nothing is beyond a threshold with evidence" in board_of(quiet)
    assert "Coast critical" not in board_of(quiet)


def test_combined_dimensions_are_shown_apart():
    kpi = make_kpi(
        dimensions=[["region", "product"]],
        alert={"window": "month", "by": ["region", "product"]},
    )
    where = {"by": "region,product", "segment": "Coast\x1ffibre", "status": "critical"}
    rows = [*on_time_rows(), row("on_time_rate", "month", OCTOBER, 0.74, **where)]
    text = board_of(make_snapshot([kpi], rows))

    assert (
        "By region and product, off target with evidence: Coast · fibre 74.0% (critical)." in text
    )


def test_the_review_finds_a_segment_off_target():
    text = review_of(segmented("ok"))

    assert (
        "On-time completion, Coast: 74.0% (95% interval 72.0–76.0%, n 958), target 95.0%."
        " The whole interval is beyond the critical threshold of 93.0%. Sep: 95.0% (−21.0 pp)."
        " Critical since October 2026. Owner: field-delivery." in text
    )
    assert (
        "Of 1 KPIs, 1 on target, 0 off target with evidence. Segments off target with evidence: 1."
        in text
    )
    assert "is on target: 92.3% (target 95.0%). By region, off target with evidence: Coast" in text
    assert "No KPI needs attention" not in text


def test_the_review_finds_a_segment_in_chinese():
    text = review_of(segmented("ok"), "zh")

    assert (
        "按时完成率（Coast）：74.0%（95%置信区间72.0%～76.0%，样本量958），目标95.0%。"
        "整个区间越过严重阈值93.0%。9月：95.0%（−21.0个百分点）。自2026年10月起严重；负责方：field-delivery。"
        in text
    )
    assert "另有1个分段有充分证据表明未达标。" in text


def test_the_review_names_the_segments_of_a_whole_off_target():
    text = review_of(segmented("critical"))

    assert (
        "The whole interval is beyond the critical threshold of 93.0%. By region, off target with"
        " evidence: Coast 74.0% (critical). Sep: 96.1% (−3.8 pp). Critical since October 2026."
        " Owner: field-delivery." in text
    )
    assert "On-time completion, Coast" not in text


# ---- readings, segments


def test_the_board_shows_the_latest_complete_week():
    # on 1 November the week of 26 October is not over
    snapshot = make_snapshot(
        [make_kpi(windows=["week"])], on_time_rows(), as_of=AS_OF - timedelta(days=1)
    )
    text = plain(Page(render_board(snapshot, NOW, "en")).text)

    assert "91.5%90.5–92.5%" in text
    assert "25 Oct 2026week" in text


def test_how_long_a_kpi_has_been_off_target():
    states = [Status.OK, Status.WARNING, Status.CRITICAL, Status.CRITICAL]
    days = [reading(period_end=date(2026, 10, n), status=s) for n, s in enumerate(states, start=2)]
    first = unbroken_since(days, days[-1])

    assert first is not None
    assert first.period_end == date(2026, 10, 4)
    assert unbroken_since(days[1:2], days[1]) is None


def test_segments_are_ordered_worst_first_and_marked_with_evidence():
    rows = [
        reading(0.951, segment="Metro", low=0.943, high=0.958),
        reading(0.74, segment="Coast", low=0.72, high=0.76),
        reading(0.98, segment="East", low=0.97, high=0.99),
        reading(0.5, segment="Tiny", low=0.1, high=0.9, sample_size=3),
    ]
    comparison = compare(make_kpi(min_sample=50), "region", rows)

    assert [(c.reading.segment, c.mark) for c in comparison.drawn] == [
        ("Tiny", Mark.TOO_FEW),
        ("Coast", Mark.WORSE),
        ("Metro", Mark.NEITHER),
        ("East", Mark.BETTER),
    ]
    assert comparison.compared == 3
    assert comparison.worse == ("Coast",)


def test_many_comparisons_need_more_evidence():
    # one interval of forty just misses the target: expected by chance alone
    rows = [reading(0.95, segment=f"team {i}", low=0.93, high=0.97) for i in range(39)]
    rows.append(reading(0.929, segment="unlucky", low=0.908, high=0.9495))

    assert compare(make_kpi(), "team", rows).worse == ()
    assert compare(make_kpi(), "team", rows[-1:]).worse == ("unlucky",)


def test_segments_without_a_target_are_shown_but_not_compared():
    free = {"target": None, "warning": None, "critical": None, "status": "no_target"}
    rows = [{**line, **free} for line in on_time_rows()]
    html = render_review(make_snapshot([make_kpi(targets=[])], rows), OCTOBER, "en")

    assert "No target was set to compare with" in html
    assert "comparisons" not in html


def test_of_many_segments_the_worst_twelve_are_drawn():
    rows = [reading(0.9 + i / 1000, segment=f"team {i}") for i in range(30)]
    comparison = compare(make_kpi(), "team", rows)

    assert len(comparison.drawn) == 12
    assert comparison.left_out == 18
    assert comparison.drawn[0].reading.segment == "team 0"


# ---- geometry


def chart(readings: list[Reading], **keys) -> str:
    kpi = make_kpi(**keys)
    style = style_of(kpi, [], "CNY", "en")
    return kpi_chart(kpi, readings, "week", style, EN, width=665, height=236, label="finding")


def week(n: int, value: float | None, **more) -> Reading:
    start = date(2026, 8, 3) + timedelta(weeks=n)
    facts = {"low": None, "high": None, "status": Status.OK, **more}
    return reading(value, period_start=start, period_end=start + timedelta(days=7), **facts)


def points(svg: str, css: str = "g-pt") -> list[tuple[float, float]]:
    found = re.findall(rf'<circle cx="([\d.]+)" cy="([\d.]+)" r="[\d.]+" class="{css}"', svg)
    return [(float(x), float(y)) for x, y in found]


def test_higher_values_stand_higher_and_later_ones_further_right():
    dots = points(chart([week(0, 0.93), week(1, 0.97), week(2, 0.95)]))

    assert [x for x, _ in dots] == sorted(x for x, _ in dots)
    assert dots[1][1] < dots[2][1] < dots[0][1]


def test_the_axis_includes_the_target_but_not_a_far_threshold():
    kpi = make_kpi()
    ends = value_range(kpi, [week(0, 0.70), week(1, 0.72)])

    assert is_drawn(0.95, ends)
    assert not is_drawn(0.2, value_range(kpi, [week(0, 0.96, critical=0.2)]))
    assert value_range(kpi, [week(0, 1.0)])[1] == 1.0


def test_a_missing_value_breaks_the_line_and_is_marked():
    svg = chart([week(0, 0.95), week(1, None), week(2, 0.96), week(3, 0.94)])

    assert svg.count('class="g-data"') == 2
    assert svg.count('class="g-gap"') == 2  # the two strokes of one cross


def test_a_provisional_period_is_hatched_and_hollow():
    svg = chart([week(0, 0.95), week(1, 0.96, is_final=False)])

    assert svg.count('fill="url(#hatch-on_time_rate)"') == 1
    assert len(points(svg, "g-open")) == 1
    assert "provisional" in svg


def test_the_last_value_does_not_read_like_part_of_the_date():
    assert ">week of 10\xa0Aug: 96.0%</text>" in chart([week(0, 0.95), week(1, 0.96)])


def test_the_target_steps_where_it_changed():
    svg = chart([week(0, 0.95, target=0.94), week(1, 0.96)])
    steps = re.search(r'd="M([^"]*)" class="g-target"', svg)

    assert steps is not None
    heights = [float(pair.split()[1]) for pair in steps[1].split("L")]
    assert len(heights) == 4
    assert heights[0] == heights[1] > heights[2] == heights[3]


def test_in_the_distance_cell_right_is_better_whatever_the_direction():
    def place(value: float, **keys) -> float:
        kpi = make_kpi(**keys)
        levels = {"target": 0.04, "warning": 0.05, "critical": 0.06} if keys else {}
        shown = reading(value, status=Status.OK, low=None, high=None, **levels)
        style = style_of(kpi, [], "CNY", "en")
        svg = distance_cell(kpi, shown, style, EN, width=210, height=44)
        return points(svg)[0][0]

    lower = {"direction": "lower_is_better", "targets": []}
    assert place(0.96) > place(0.95) > place(0.94)
    assert place(0.03, **lower) > place(0.04, **lower) > place(0.05, **lower)
    assert place(0.95) == place(0.04, **lower) == pytest.approx(210 * 0.62)


def test_the_dot_plot_keeps_the_order_it_is_given():
    kpi = make_kpi()
    rows = [reading(0.96, segment="East"), reading(0.74, segment="Coast", low=0.72, high=0.76)]
    style = style_of(kpi, [], "CNY", "en")
    svg = dot_plot(
        kpi, compare(kpi, "region", rows), reading(), style, EN, width=316, label="finding"
    )

    assert svg.index(">Coast<") < svg.index(">East<")
    assert svg.count('class="g-bad"') == 1


def test_labels_at_the_end_of_lines_do_not_overlap():
    heights = spread([Label(100, "a", ""), Label(101, "b", ""), Label(99, "c", "")], 13, 0, 200)

    assert heights[2] < heights[0] < heights[1]
    assert heights[0] - heights[2] >= 12.9
    assert heights[1] - heights[0] >= 12.9


def test_ticks_are_round_numbers_within_the_axis():
    assert nice_ticks(0.91, 0.98, 5) == pytest.approx(
        [0.91, 0.92, 0.93, 0.94, 0.95, 0.96, 0.97, 0.98]
    )
    assert nice_ticks(3.0, 3.0) == [3.0]


def test_the_review_says_how_far_quarantined_records_could_have_moved_a_kpi():
    rows = [
        row("on_time_rate", "month", OCTOBER, 0.95, aside=12, worst=0.931, best=0.96),
    ]
    made = make_snapshot([make_kpi()], rows)

    english = plain(render_review(made, OCTOBER, "en"))
    chinese = plain(render_review(made, OCTOBER, "zh"))

    assert "records in quarantine (12) could have moved it to between 93.1% and 96.0%" in english
    assert "Quarantined records could have moved 1 of 1 KPIs of this month" in english
    assert "12条被隔离的记录可使其介于93.1%与96.0%之间" in chinese


def test_an_effect_without_bounds_is_said_to_be_unknown():
    rows = [row("on_time_rate", "month", OCTOBER, 0.95, aside=1, worst=None, best=None)]

    page = plain(render_review(make_snapshot([make_kpi()], rows), OCTOBER, "en"))

    assert "records in quarantine (1) could have moved it, by how much is not known" in page

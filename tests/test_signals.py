"""What control charts show and say on the pages: geometry, marks, notes, words."""

import re
from datetime import date, timedelta

import pytest
from snapshots import AS_OF, OCTOBER, make_kpi, make_snapshot, row, source

from sqm.review import render_board, render_review
from sqm.review.cells import sparkline
from sqm.review.charts import kpi_chart, value_range
from sqm.review.course import course_finding, limits_caption, note_of, signal_text, trend_word
from sqm.review.formats import JOINER, style_of
from sqm.review.readings import Reading
from sqm.review.signals import find_groups
from sqm.review.wording import Words
from sqm.terms import Status

EN, ZH = Words("en"), Words("zh")
LATER = date(2027, 1, 1)
LOWER = {"direction": "lower_is_better", "targets": []}
PHASES = {
    "chart": {
        "phases": [
            {
                "from": date(2026, 8, 17),
                "reason": {"en": "two-hour windows", "zh": "两小时预约窗口"},
            }
        ]
    }
}


def week(n: int, value: float | None, signal: str = "", **more) -> Reading:
    """The n-th week from 3 August 2026; mean 95%, limits 93% and 97%, unless said otherwise."""
    start = date(2026, 8, 3) + timedelta(weeks=n)
    facts = {
        "period_start": start,
        "period_end": start + timedelta(days=7),
        "segment": "",
        "numerator": None,
        "denominator": 400.0,
        "value": value,
        "low": None,
        "high": None,
        "sample_size": 400,
        "status": Status.OK,
        "is_final": True,
        "reason": "",
        "target": 0.95,
        "warning": None,
        "critical": None,
        "center": 0.95,
        "limit_low": 0.93,
        "limit_high": 0.97,
        "signal": signal,
        "chart": "p",
        "limit_points": 30,
    }
    return Reading(**{**facts, **more})


def bare(n: int, value: float) -> Reading:
    none = {"center": None, "limit_low": None, "limit_high": None, "chart": "", "limit_points": 0}
    return week(n, value, **none)


def weeks(*values: float, **signals: str) -> list[Reading]:
    """Weeks with these values; `w3="we1"` gives the fourth a signal."""
    return [week(n, v, signals.get(f"w{n}", "")) for n, v in enumerate(values)]


QUIET = weeks(0.951, 0.949, 0.952, 0.948, 0.951, 0.949)
DROP = weeks(0.951, 0.949, 0.952, 0.92, 0.91, 0.921, w3="we1", w4="we1", w5="we1")
ONE = weeks(0.951, 0.949, 0.952, 0.948, 0.951, 0.92, w5="we1")
PAST = weeks(0.951, 0.92, 0.952, 0.948, 0.951, 0.949, w1="we1")
RUN = weeks(
    *(0.951, 0.949, 0.955, 0.956, 0.954, 0.955, 0.957, 0.954, 0.955, 0.956, 0.958),
    **{"w9": "we4", "w10": "we4"},
)


def chart(readings: list[Reading], words: Words = EN, **keys) -> str:
    kpi = make_kpi(**keys)
    style = style_of(kpi, [], "CNY", words.language)
    drawn = kpi_chart(kpi, readings, "week", style, words, width=665, height=236, label="x")
    return str(drawn).replace(JOINER, "").replace("\xa0", " ")


def spark(readings: list[Reading], **keys) -> str:
    kpi = make_kpi(**keys)
    style = style_of(kpi, [], "CNY", "en")
    return str(sparkline(kpi, readings, "week", style, EN, width=170, height=34))


def heights(svg: str, css: str) -> list[list[float]]:
    paths = re.findall(rf'<path d="M([^"]*)" class="{css}"', svg)
    return [[float(pair.split()[1]) for pair in path.split("L")] for path in paths]


def marks(svg: str) -> list[str]:
    """The signals drawn, in order."""
    found = re.findall(r'<(rect|circle|path)[^>]* class="(g-bad|g-good)"', svg)
    return [f"{shape} {css}" for shape, css in found]


def finding(readings: list[Reading], words: Words = EN, window: str = "week", **keys) -> str:
    said = course_finding(make_kpi(**keys), readings, window, words, LATER)
    return said.replace(JOINER, "").replace("\xa0", " ")


def notes(readings: list[Reading], words: Words = EN, **keys) -> list[tuple[str, ...]]:
    groups = find_groups(make_kpi(**keys), readings)
    told = [note_of(group, readings, "week", words) for group in groups]
    return [tuple(t.replace(JOINER, "").replace("\xa0", " ") for t in lines) for lines in told]


# ---- drawn


def test_limits_and_mean_stand_between_the_values_they_lie_between():
    svg = chart(weeks(0.98, 0.96, 0.94, 0.92, w0="we1", w3="we1"))
    [line] = heights(svg, "g-data")
    [upper], [lower] = [[set(path)] for path in heights(svg, "g-limit")]
    [mean] = heights(svg, "g-cl")

    assert line[0] < min(upper) < line[1] < mean[0] < line[2] < min(lower) < line[3]


def test_limits_step_with_the_sample():
    svg = chart([week(0, 0.951), week(1, 0.949, limit_low=0.90, limit_high=0.99)])
    upper, lower = heights(svg, "g-limit")

    assert upper[0] == upper[1] > upper[2] == upper[3]
    assert lower[0] == lower[1] < lower[2] == lower[3]


def test_a_phase_breaks_the_limits_and_is_named():
    svg = chart([week(0, 0.951), week(1, 0.949), week(2, 0.952), week(3, 0.948)], **PHASES)

    assert len(heights(svg, "g-cl")) == 2
    assert len(heights(svg, "g-limit")) == 4
    assert svg.count('class="g-phase"') == 1
    assert ">17 Aug 2026</text>" in svg
    assert ">two-hour windows</text>" in svg
    assert ">两小时预约窗口</text>" in chart([week(n, 0.95) for n in range(4)], ZH, **PHASES)


def test_a_phase_before_the_chart_is_not_drawn():
    assert "g-phase" not in chart([week(3, 0.951), week(4, 0.949)], **PHASES)


@pytest.mark.parametrize(
    ("value", "rule", "keys", "mark"),
    [
        pytest.param(0.92, "we1", {}, "rect g-bad", id="beyond, bad"),
        pytest.param(0.98, "we1,we4", {}, "path g-good", id="beyond, good"),
        pytest.param(0.98, "n1", LOWER, "rect g-bad", id="beyond, bad where lower is better"),
        pytest.param(0.92, "we1", LOWER, "path g-good", id="beyond, good where lower is better"),
        pytest.param(0.94, "we4", {}, "circle g-bad", id="a run, bad"),
        pytest.param(0.96, "we2,we4", {}, "circle g-good", id="a run, good"),
    ],
)
def test_a_signal_has_the_mark_of_its_kind_and_side(value, rule, keys, mark):
    readings = [week(0, 0.951), week(1, value, rule)]

    assert marks(chart(readings, **keys)) == [mark]
    assert marks(spark(readings, **keys)) == [mark]


def test_a_pattern_on_no_side_is_neither_good_nor_bad():
    assert marks(chart([week(0, 0.951), week(1, 0.952, "n7")])) == []


def test_lines_are_named_at_the_right_end():
    svg = chart([week(0, 0.951), week(1, 0.949)])

    assert ">upper limit 97.0%</text>" in svg
    assert ">mean 95.0%</text>" in svg
    assert ">lower limit 93.0%</text>" in svg
    assert ">下控制限 93.0%</text>" in chart([week(0, 0.951), week(1, 0.949)], ZH)


def test_a_limit_that_nothing_can_pass_has_no_name():
    svg = chart([week(0, 0.951, limit_high=1.0), week(1, 0.949, limit_high=1.0)])

    assert "upper limit" not in svg
    assert "lower limit" in svg


def test_without_limits_nothing_of_a_control_chart_is_drawn():
    readings = [bare(n, v) for n, v in enumerate((0.95, 0.96, 0.94))]
    svg = chart(readings)

    for trace in ("g-limit", "g-cl", "g-phase", "g-bad", "g-good", "mean", "limit"):
        assert trace not in svg
    assert "g-band" not in spark(readings)
    assert finding(readings) == ""
    assert limits_caption(make_kpi(), readings, "week", EN) == []


def test_where_limits_are_drawn_a_square_is_no_status():
    critical = {"status": Status.CRITICAL}

    assert marks(chart([week(0, 0.951), week(1, 0.949, **critical)])) == []
    assert marks(chart([bare(0, 0.951), week(1, 0.92, "we1", **critical)])) == ["rect g-bad"]


def test_limits_far_away_do_not_press_the_line_flat():
    low, high = value_range(make_kpi(), [week(0, 0.94), week(1, 0.96, limit_low=0.2)])

    assert 0.90 < low < 0.93
    assert 0.97 < high < 1.0


def test_the_sparkline_has_limits_as_a_band():
    svg = spark([week(0, 0.96), week(1, 0.94)])
    [line], [band] = heights(svg, "g-data fine"), heights(svg, "g-band")

    assert min(band) < line[0] < line[1] < max(band)
    assert 'class="g-target fine"' in svg


def test_the_chart_notes_each_group_once():
    svg = chart(DROP)

    assert svg.count('class="t-bad b halo"') == 1
    assert ">3 weeks below the lower limit</text>" in svg
    assert ">from week of 24 Aug</text>" in svg


def test_two_notes_do_not_share_a_place():
    values = [0.95, 0.951] * 12
    readings = weeks(*values, 0.80, 0.955, 0.92, w24="we1", w26="we1")
    svg = chart(readings)

    assert svg.count(' b halo"') == 2
    boxes = re.findall(r'<text x="([\d.]+)" y="([\d.]+)" class="t-bad b halo"', svg)
    assert len(set(boxes)) == 2


# ---- said


@pytest.mark.parametrize(
    ("readings", "english", "chinese"),
    [
        pytest.param(
            DROP,
            [("3 weeks below the lower limit", "from week of 24 Aug")],
            [("3周低于下控制限", "自8月24日当周起")],
            id="beyond",
        ),
        pytest.param(
            ONE,
            [("1 week below the lower limit", "week of 7 Sep")],
            [("1周低于下控制限", "9月7日当周")],
            id="one week",
        ),
        pytest.param(
            RUN,
            [("9 weeks in a row above the mean", "from week of 17 Aug")],
            [("连续9周高于均值", "自8月17日当周起")],
            id="a run",
        ),
        pytest.param(
            RUN[2:],
            [("9 weeks in a row above the mean", "begun before this chart")],
            [("连续9周高于均值", "始于本图之前")],
            id="a run that began before",
        ),
        pytest.param(
            weeks(0.951, 0.96, 0.949, 0.964, 0.98, w3="we2", w4="we1"),
            [("1 of 4 weeks above the upper limit", "from week of 10 Aug")],
            [("4周中有1期超出上控制限", "自8月10日当周起")],
            id="two of three, then beyond",
        ),
        pytest.param(
            weeks(0.98, 0.951, 0.92, w0="we1", w2="we1"),
            [
                ("1 week above the upper limit", "week of 3 Aug"),
                ("1 week below the lower limit", "week of 17 Aug"),
            ],
            [("1周超出上控制限", "8月3日当周"), ("1周低于下控制限", "8月17日当周")],
            id="two groups",
        ),
    ],
)
def test_a_note_says_how_many_which_side_and_since_when(readings, english, chinese):
    assert notes(readings) == english
    assert notes(readings, ZH) == chinese


def test_a_run_passes_over_periods_that_are_missing_or_too_small():
    above = [week(n, 0.955) for n in range(1, 10)]
    readings = [week(0, 0.945), *above, week(10, 0.956, "we4")]
    readings[4] = week(4, None)
    readings[6] = week(6, 0.90)  # too small a sample to be tested

    assert notes(readings) == [("9 weeks in a row above the mean", "from week of 10 Aug")]


def test_a_run_begins_with_its_phase():
    readings = [week(0, 0.945), week(1, 0.955), *RUN[2:]]

    assert notes(readings) == [("10 weeks in a row above the mean", "from week of 10 Aug")]
    assert notes(readings, **PHASES) == [("9 weeks in a row above the mean", "from week of 17 Aug")]


def test_signals_of_two_phases_are_two_groups():
    readings = weeks(0.95, 0.92, 0.92, 0.95, w1="we1", w2="we1")

    assert len(notes(readings)) == 1
    assert len(notes(readings, **PHASES)) == 2


@pytest.mark.parametrize(
    ("readings", "english", "chinese"),
    [
        pytest.param(QUIET, "No signal in 6 weeks", "6周内无信号", id="quiet"),
        pytest.param(
            DROP,
            "From 24 Aug 2026 it is a different process, for the worse",
            "自2026年8月24日起过程已不同（变差）",
            id="dropped",
        ),
        pytest.param(
            RUN,
            "From 17 Aug 2026 it is a different process, for the better",
            "自2026年8月17日起过程已不同（变好）",
            id="a run",
        ),
        pytest.param(
            RUN[2:],
            "Since before this chart it is a different process, for the better: above the mean",
            "本图之前过程已不同（变好）：高于均值",
            id="a run from before",
        ),
        pytest.param(
            ONE,
            "One event: week of 7 Sep 2026 outside the limits",
            "单次事件：2026年9月7日当周超出控制限",
            id="one event",
        ),
        pytest.param(
            PAST,
            "No signal since week of 10 Aug 2026; 1 of 6 weeks had one",
            "自2026年8月10日当周后无信号；6周中1期有信号",
            id="past",
        ),
    ],
)
def test_the_head_says_whether_the_process_changed(readings, english, chinese):
    assert finding(readings) == english
    assert finding(readings, ZH) == chinese


@pytest.mark.parametrize(
    ("readings", "keys", "word"),
    [
        pytest.param(QUIET, {}, ("", ""), id="quiet"),
        pytest.param([bare(0, 0.97), bare(1, 0.90)], {}, ("", ""), id="two neighbours alone"),
        pytest.param(DROP, {}, ("worsening", "t-bad"), id="dropped"),
        pytest.param(DROP, LOWER, ("improving", "t-good"), id="dropped, lower is better"),
        pytest.param(RUN, {}, ("improving", "t-good"), id="a run"),
        pytest.param(ONE, {}, ("one event", "t-event"), id="one event"),
        pytest.param(PAST, {}, ("one event", "t-event"), id="one event, a while ago"),
        pytest.param(
            [*PAST[:2], *(week(n, 0.951) for n in range(2, 10))], {}, ("", ""), id="long ago"
        ),
        pytest.param(
            weeks(0.92, 0.951, 0.98, w0="we1", w2="we1"), {}, ("2 events", "t-event"), id="two"
        ),
    ],
)
def test_the_trend_word_rests_on_signals_of_the_last_periods(readings, keys, word):
    assert trend_word(make_kpi(**keys), readings, EN, LATER) == word


def test_a_period_that_is_not_over_does_not_end_a_trend():
    going_on = [*DROP, *(week(n, 0.93) for n in (6, 7))]

    assert trend_word(make_kpi(), going_on, EN, DROP[-1].period_end) == ("worsening", "t-bad")
    assert trend_word(make_kpi(), going_on, ZH, DROP[-1].period_end) == ("变差", "t-bad")


def test_the_caption_names_the_chart_and_what_its_limits_rest_on():
    [said] = limits_caption(make_kpi(), QUIET, "week", EN)
    trial = [week(n, 0.951, limit_points=9, chart="laney_p") for n in range(3)]

    assert said == (
        "Thin line and dotted lines: mean and control limits; p chart, limits from 30 weeks."
    )
    assert limits_caption(make_kpi(), trial, "week", EN) == [
        "Thin line and dotted lines: mean and control limits;"
        " Laney p′ chart, limits from 9 weeks (trial limits)."
    ]
    assert limits_caption(make_kpi(), trial, "week", ZH) == [
        "细实线与点线：均值与控制限；Laney p′图，控制限据9周（试用限）。"
    ]


def test_the_caption_tells_phases_apart_and_explains_the_marks_it_has():
    readings = weeks(0.951, 0.98, 0.92, 0.95, w1="we1", w2="we1", w3="we4")
    readings[2:] = [week(n, r.value, r.signal, limit_points=12) for n, r in enumerate(readings)][2:]

    told = limits_caption(make_kpi(**PHASES), readings, "week", EN)

    assert told[0].replace("\xa0", " ") == (
        "Thin line and dotted lines: mean and control limits; p chart, limits from 30 weeks;"
        " from 17 Aug 2026 p chart, limits from 12 weeks."
    )
    assert told[1:] == [
        "Square: beyond a limit on the bad side.",
        "Triangle: beyond a limit on the good side.",
        "Large dot: completes a run or another pattern.",
    ]


def test_a_signal_is_named_in_the_table():
    assert signal_text(week(0, 0.92, "we1,we4"), EN) == "below the lower limit"
    assert signal_text(week(0, 0.96, "we2,we4"), EN) == (
        "two of three beyond 2 sigma and eight in a row on one side"
    )
    assert signal_text(week(0, 0.96), EN) == ""


# ---- slow drift


EWMA = {"chart": {"rules": ["we1", "ewma"]}}
CUSUM = {"chart": {"rules": ["we1", "cusum"]}}


def average(n: int, value: float | None, level: float | None, signal: str = "") -> Reading:
    """A week with an EWMA around 95%, its limits 94.4% and 95.6%."""
    low, high = (None, None) if level is None else (0.944, 0.956)
    return week(n, value, signal, ewma=level, ewma_low=low, ewma_high=high)


def summed(n: int, value: float, above: float, below: float, signal: str = "") -> Reading:
    return week(n, value, signal, cusum_high=above, cusum_low=below)


# the average leaves the mean with the third week and its limit with the fifth; the last value is
# above the mean, the average is not
DRIFTING = [
    average(0, 0.951, 0.951),
    average(1, 0.952, 0.9512),
    average(2, 0.94, 0.949),
    average(3, 0.935, 0.9462),
    average(4, 0.936, 0.9439, "ewma"),
    average(5, 0.951, 0.9436, "ewma"),
]
SUMMED = [
    summed(0, 0.951, 0.2, 0),
    summed(1, 0.93, 0, 0),
    summed(2, 0.935, 0, 2.5),
    summed(3, 0.936, 0, 5.1, "cusum"),
]


def test_a_drift_begins_where_the_average_left_the_mean():
    assert notes(DRIFTING, **EWMA) == [("slow drift, below the mean", "from week of 17 Aug")]
    assert notes(DRIFTING, ZH, **EWMA) == [("缓慢漂移，低于均值", "自8月17日当周起")]


def test_a_drift_begins_where_the_sum_left_zero():
    assert notes(SUMMED, **CUSUM) == [("slow drift, below the mean", "from week of 17 Aug")]


def test_a_drift_passes_over_weeks_that_were_not_tested():
    readings = [*DRIFTING[:3], average(3, 0.5, None), *DRIFTING[4:]]

    assert notes(readings, **EWMA) == [("slow drift, below the mean", "from week of 17 Aug")]


def test_a_drift_from_before_the_chart_says_so():
    assert notes(DRIFTING[2:], **EWMA) == [
        ("slow drift, below the mean", "begun before this chart")
    ]
    assert finding(DRIFTING[2:], **EWMA) == (
        "Since before this chart it is a different process, for the worse: below the mean"
    )


def test_a_drift_begins_with_its_phase():
    readings = [week(0, 0.94, ewma=0.949), week(1, 0.94, ewma=0.947), *DRIFTING[2:]]
    phases = {"chart": {**PHASES["chart"], **EWMA["chart"]}}  # 17 August

    assert notes(readings, **EWMA)[0][1] == "begun before this chart"
    assert notes(readings, **phases)[0][1] == "from week of 17 Aug"


def test_a_drift_is_a_course_and_not_an_event():
    assert finding(DRIFTING, **EWMA) == "Slow drift since 17 Aug 2026, for the worse"
    assert finding(DRIFTING, ZH, **EWMA) == "自2026年8月17日起缓慢漂移（变差）"
    assert trend_word(make_kpi(**EWMA), DRIFTING, EN, LATER) == ("worsening", "t-bad")
    assert trend_word(make_kpi(**CUSUM, **LOWER), SUMMED, EN, LATER) == ("improving", "t-good")


def test_one_week_beyond_the_limits_within_a_drift_is_no_single_event():
    readings = [*DRIFTING[:5], average(5, 0.92, 0.9391, "we1,ewma")]

    assert finding(readings, **EWMA) == "From 17 Aug 2026 it is a different process, for the worse"
    assert notes(readings, **EWMA) == [
        ("1 of 4 weeks below the lower limit", "from week of 17 Aug")
    ]


def test_the_mark_of_a_drift_is_on_the_side_of_the_statistic():
    """The last value is above the mean, where more is better."""
    assert marks(chart(DRIFTING, **EWMA)) == ["circle g-bad", "circle g-bad"]


def test_a_drift_is_named_in_the_table():
    assert signal_text(DRIFTING[-1], EN) == "slow drift (EWMA)"
    assert signal_text(SUMMED[-1], ZH) == "缓慢漂移（CUSUM）"


def test_the_average_and_its_limits_are_thin_lines():
    svg = chart(DRIFTING, **EWMA)
    upper, line, lower = heights(svg, "g-ewma")

    assert len(line) == 6
    assert max(upper) < min(line[:4])
    assert line[0] < line[2] < line[3] < min(lower) < line[4] < line[5]
    assert ">EWMA 94.4%</text>" in svg
    assert "g-ewma" not in chart(QUIET)


def test_a_phase_breaks_the_average():
    phases = {"chart": {**PHASES["chart"], **EWMA["chart"]}}

    drawn = heights(chart(DRIFTING, **phases), "g-ewma")
    assert [len(line) for line in drawn] == [2, 2, 2, 4, 4, 4]


def test_the_caption_says_what_the_average_is_and_where_the_sums_stand():
    assert limits_caption(make_kpi(**EWMA), DRIFTING, "week", EN)[-1] == (
        "Pale lines: the moving average (EWMA, λ 0.2) and its limits (L 2.7)."
    )
    assert limits_caption(make_kpi(**CUSUM), SUMMED, "week", EN)[-1] == (
        "Summed deviations (CUSUM, k 0.5): 0.0 sigma above the mean, 5.1 below; a signal beyond 5."
    )
    assert limits_caption(make_kpi(**CUSUM), SUMMED, "week", ZH)[-1] == (
        "累积偏差（CUSUM，k 0.5）：高于均值0.0σ，低于均值5.1σ；超过5即为信号。"
    )


# ---- on the pages


def limited(signal_from: int, **manifest):
    limits = {"center": 0.95, "limit_low": 0.93, "limit_high": 0.97, "chart": "p"}
    rows = []
    for n in range(10):
        is_low = n >= signal_from
        start = date(2026, 8, 17) + timedelta(weeks=n)
        signal = {"signal": "we1" if is_low else "", "limit_points": 10}
        value = 0.92 if is_low else 0.95 + 0.001 * (-1) ** n
        rows.append(row("on_time_rate", "week", start, value, **limits, **signal))
    rows.append(row("on_time_rate", "month", OCTOBER, 0.93))
    return make_snapshot([make_kpi()], rows, **manifest)


def test_both_pages_show_the_trend_word_and_the_review_the_finding():
    snapshot = limited(7)

    board = render_board(snapshot, AS_OF, "en")
    review = render_review(snapshot, OCTOBER, "en").replace("\xa0", " ")

    assert '<span class="sub t-bad">worsening</span>' in board
    assert '<span class="sub t-bad">worsening</span>' in review
    assert (
        "<h3>From 5 Oct 2026 it is a different process, for the worse;"
        " below target in 6 of the last 10 weeks</h3>"
    ) in review
    assert "p chart, limits from 10 weeks (trial limits)." in review
    assert '<th scope="col" class="num">Control limits</th>' in review
    assert "<td>below the lower limit</td>" in review


def test_what_a_late_source_has_not_brought_is_no_trend():
    late = source("work_orders", "jobs", hours_old=24 * 27)  # nothing since 6 October

    board = render_board(limited(7, sources=(late,)), AS_OF, "en")
    review = render_review(limited(7, sources=(late,)), OCTOBER, "en").replace("\xa0", " ")

    assert "worsening" not in board
    assert "No signal in 7 weeks, judged to 6 Oct 2026: a source is late; " in review
    assert "below the lower limit" not in review

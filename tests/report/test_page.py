"""The page in a real browser: no request, no error, no foreign script; filters and sorting do what they say."""

import dataclasses
import json
import re
from html.parser import HTMLParser

import pytest

from deni.report import write_report
from deni.study.cell import NamedSettings
from deni.study.spec.axes import LONGEST_LABEL
from tests.helpers.access import serious
from tests.helpers.made import make, runs

SCRIPT = "<script>alert(1)</script>"
HOSTILE = (f"\"'>{SCRIPT}", f"</script>{SCRIPT}", "<img src=x onerror=alert(1)>", "`${alert(1)}` & <!-- \u2028")


@pytest.fixture(scope="module")
def page_file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    cells = [
        run
        for dataset, labelled in (("trec", 50), ("trec", 100), ("sst2", 50))
        for at, strategy in enumerate(("default", "swa", NamedSettings("deni", {"members": 3})))
        for run in runs(strategy, 0.5 + 0.2 * at, 6, shift=at, cost=10 * 3**at, dataset=dataset, labelled=labelled)
    ]
    write_report(make(folder / "study.db", cells), folder / "page.html")
    return folder / "page.html"


@pytest.fixture(scope="module")
def hostile_file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    one, two, three, four = HOSTILE
    cells = [
        *runs(one, 0.5, 5, dataset=two, labels=HOSTILE[:3], model=four),
        *runs("default", 0.8, 5, shift=1, dataset=two, labels=HOSTILE[:3], model=four),
        *((cell, f"Traceback\nValueError: {three}") for cell, _ in list(runs(four, 0.5, 2, dataset=two, model=four))),
        *runs(three, 0.7, 5, shift=2, dataset=three, labelled=7, tuning=NamedSettings(three, {one: two}), model=three),
    ]
    write_report(make(folder / "study.db", cells, study=f"{one} {two}"), folder / "page.html")
    return folder / "page.html"


def strategies(page, table):
    return page.locator(f"#table-{table} tbody tr:visible td:first-child").all_text_contents()


def choose(page, field, value, on):
    turn = page.evaluate("document.body.dataset.drawn")
    if not page.locator("#filters details").evaluate("each => each.open"):
        page.locator("#filters summary").click()
    box = page.locator(f'fieldset[data-filter="{field}"] label', has_text=value).locator("input")
    box.set_checked(on)
    page.wait_for_function("turn => document.body.dataset.drawn !== turn", arg=turn)


def test_the_page_opens_without_a_request_or_an_error(opened, page_file):
    page = opened(page_file)
    assert page.asked == [page_file.as_uri()]
    assert page.said == []
    for name, cards in (
        ("seeds", 3),
        ("learning", 1),
        ("ranks", 1),
        ("cost-mean", 3),
        ("cost-sd", 3),
        ("disagreement", 3),
    ):
        assert page.locator(f"#cards-{name} svg").count() == cards, name
    assert page.locator("#cards-seeds svg").first.locator("path[aria-roledescription=point]").count() == 18


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_on_the_page_keeps_people_from_reading_it(opened, page_file, scheme):
    pytest.importorskip("axe_playwright_python", reason="needs axe_playwright_python")
    assert serious(opened(page_file, scheme=scheme)) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_the_page_is_as_wide_as_its_window_and_has_the_colours_of_its_scheme(opened, page_file, width, scheme):
    page = opened(page_file, width, scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    paper, ink = page.evaluate(
        "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
    )
    bright = [sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in (paper, ink)]
    assert (bright[0] > 600 and bright[1] < 150) if scheme == "light" else (bright[0] < 150 and bright[1] > 600)
    label = page.locator("#cards-seeds svg text").first.evaluate("each => getComputedStyle(each).fill")
    assert label == ink  # the figures follow
    on_paper = page.evaluate("matchMedia('print').matches")
    page.emulate_media(media="print")
    assert not on_paper
    assert not page.locator("#filters").is_visible()


def test_tables_fit_on_paper(opened, page_file, hostile_file):
    for file in (page_file, hostile_file):
        page = opened(file, 720)  # A4 within its margins, where nothing can be scrolled
        page.emulate_media(media="print")
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        right = page.evaluate(
            "[...document.querySelectorAll('table')].map((each) => each.getBoundingClientRect().right)"
        )
        assert len(right) >= 4
        assert max(right) <= 720


def test_a_wide_matrix_is_not_printed(opened, tmp_path):
    cells = [run for at in range(8) for run in runs("default", 0.6, 3, dataset=f"set{at}", texts=12)]
    write_report(make(tmp_path / "study.db", cells), tmp_path / "page.html")
    page = opened(tmp_path / "page.html")
    assert page.locator("#table-matrix").is_visible()
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert not page.locator("#table-matrix").is_visible()
    assert page.locator("#table-results tbody tr:visible").count() == 8


def test_filters_change_tables_and_figures(opened, page_file):
    page = opened(page_file)
    assert len(strategies(page, "instability")) == 9
    choose(page, "dataset", "sst2", False)
    assert len(strategies(page, "instability")) == 6
    assert page.locator("#cards-seeds figcaption").all_text_contents() == ["trec, 50 labeled", "trec, 100 labeled"]
    assert page.locator("#table-matrix thead th:visible").count() == 3
    assert page.locator("#count").text_content() == "2 of 3 settings, 3 of 3 strategies"
    choose(page, "strategy", "swa", False)
    assert set(strategies(page, "instability")) == {"default", "deni (members=3)"}
    assert page.locator("#cards-seeds svg").first.locator("path[aria-roledescription=point]").count() == 12
    choose(page, "labeled", "50", False)
    assert page.locator("#cards-learning svg").count() == 0  # one amount is no curve
    turn = page.evaluate("document.body.dataset.drawn")
    page.locator("#filters button").click()
    page.wait_for_function("turn => document.body.dataset.drawn !== turn", arg=turn)
    assert len(strategies(page, "instability")) == 9
    assert page.said == []


def test_tables_are_sorted_by_number_or_name_with_the_keyboard(opened, page_file):
    page = opened(page_file)
    head = page.locator("#table-comparisons thead th", has_text="difference of means")
    place = head.evaluate("each => each.cellIndex")

    def column():
        cells = page.locator(f"#table-comparisons tbody td:nth-child({place + 1})").all_text_contents()
        return [float(cell) for cell in cells]

    head.locator("button").focus()
    page.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "descending"
    assert column() == sorted(column(), reverse=True)
    page.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "ascending"
    assert column() == sorted(column())
    page.locator("#table-comparisons thead th button", has_text="strategy").click()
    assert strategies(page, "comparisons") == sorted(strategies(page, "comparisons"))
    assert head.get_attribute("aria-sort") is None


def test_a_point_says_what_it_is(opened, page_file):
    page = opened(page_file)
    page.locator("#cards-cost-mean svg").first.locator("path[aria-roledescription=point]").first.hover()
    tip = page.locator("#vg-tooltip-element.visible")
    assert "member-steps" in tip.text_content()


def test_hostile_names_are_text_in_a_browser(opened, hostile_file):
    page = opened(hostile_file)
    assert page.said == []
    assert page.asked == [hostile_file.as_uri()]
    shown = " ".join(strategies(page, "instability"))
    assert HOSTILE[0] in shown
    assert HOSTILE[2] in shown
    assert any(HOSTILE[2] in each for each in page.locator("#cards-seeds figcaption").all_text_contents())
    page.locator("#cards-disagreement svg").last.locator("path[aria-roledescription=point]").first.hover()
    assert HOSTILE[2] in page.locator("#vg-tooltip-element.visible").text_content()
    assert page.locator("img").count() == 0
    assert page.locator("script").count() == 3
    assert page.evaluate("document.title") == " ".join(HOSTILE[:2])


class _Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.scripts, self.others, self.inside = [], [], False

    def handle_starttag(self, tag, attributes):
        if tag == "script":
            self.scripts.append("")
        self.inside = tag == "script"
        self.others += [(tag, name) for name, _ in attributes if name.startswith("on")] + [tag] * (tag == "img")

    def handle_endtag(self, tag):
        self.inside = False

    def handle_data(self, text):
        if self.inside:
            self.scripts[-1] += text


def test_hostile_names_are_escaped_in_every_place(hostile_file):
    text = hostile_file.read_text(encoding="utf-8")
    tags = _Tags()
    tags.feed(text)
    assert tags.others == []
    assert len(tags.scripts) == 3
    data = json.loads(tags.scripts[0])
    assert data["strategies"][0] == HOSTILE[0]
    assert not set("<>&\u2028") & set(tags.scripts[0])
    for name in HOSTILE[:3]:
        assert name not in text


def test_a_larger_study_draws_twelve_settings_and_says_so(opened, tmp_path):
    cells = [run for at in range(14) for run in runs("default", 0.6, 3, dataset=f"set{at}", texts=12)]
    write_report(make(tmp_path / "study.db", cells), tmp_path / "page.html")
    page = opened(tmp_path / "page.html")
    assert page.locator("#cards-seeds svg").count() == 12
    assert page.locator("#seeds .note").text_content() == "The first 12 of 14 are drawn: filter to see others."
    choose(page, "dataset", "set3", False)
    choose(page, "dataset", "set4", False)
    assert page.locator("#cards-seeds svg").count() == 12
    assert not page.locator("#seeds .note").is_visible()


def test_mean_ranks_over_datasets_are_drawn_and_follow_the_filter_of_strategies(opened, tmp_path):
    cells = [
        run
        for at in range(15)
        for shift, strategy in enumerate(("default", "swa", "ema"))
        for run in runs(strategy, 0.5 + 0.2 * shift, 2, shift=3 * at + shift, dataset=f"set{at}", texts=30)
    ]
    write_report(make(tmp_path / "study.db", cells), tmp_path / "page.html")
    page = opened(tmp_path / "page.html")
    points = page.locator("#cards-mean-ranks svg path[aria-roledescription=point]")
    assert points.count() == 3
    choose(page, "dataset", "set3", False)
    assert points.count() == 3
    choose(page, "strategy", "swa", False)
    assert points.count() == 2
    assert page.said == []


def test_the_page_begins_with_every_seed_and_at_most_five_sentences_and_folds_the_rest(opened, page_file):
    page = opened(page_file)
    order = "[...document.querySelectorAll('#summary > *')].map((each) => each.id || each.className || each.tagName)"
    assert page.evaluate(order)[:4] == ["H2", "verdict", "seeds", "claims"]
    sentences = page.locator("#summary .verdict .short li")
    assert 3 <= sentences.count() <= 5
    assert sentences.first.is_visible()
    assert not page.locator("#claims li").first.is_visible()
    page.locator("#claims > summary").click()
    assert page.locator("#claims li").first.is_visible()


def test_labels_stand_in_figures_and_tables_uncut(opened, tmp_path):
    label = "a label of thirty characters.."
    assert len(label) == LONGEST_LABEL
    given = [(dataclasses.replace(cell, label=label), result) for cell, result in runs("swa", 0.8, 5, shift=1)]
    write_report(make(tmp_path / "study.db", [*runs("default", 0.6, 5), *given]), tmp_path / "page.html")
    page = opened(tmp_path / "page.html", 390)
    assert label in page.locator("#cards-seeds svg text").all_text_contents()
    assert label in page.locator("#table-matrix tbody th").all_text_contents()
    assert any(label in each for each in page.locator("#summary .short li").all_text_contents())


def test_a_long_summary_shows_ten_sentences_and_counts_the_others(tmp_path):
    cells = [run for at in range(13) for run in runs(NamedSettings("swa", {"average_from": at / 20}), 0.7, 5, shift=at)]
    write_report(make(tmp_path / "more.db", [*runs("default", 0.7, 5), *cells]), tmp_path / "more.html")
    text = (tmp_path / "more.html").read_text().partition('<div class="verdict not-shown">')[2].partition("</div>")[0]
    first, _, others = text.partition("<details>")
    assert first.count("<li>") == 10
    assert others.startswith(f"<summary>{others.count('<li>')} more</summary>")
    assert others.count("<li>") > 0

"""The page of one training in a real browser: no request, no error, no foreign script, every text as text."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from deni.analysis.performance import Performance
from deni.artifact import OutOfFold, digests_of
from deni.commands.train import train_file
from deni.data import Texts
from deni.outputs import as_utf8
from deni.recipe import Recipe
from deni.report.training import PAGE, TrainingReport, page
from deni.report.training.summary import list_wrong_labels
from deni.report.training.verdict import state_verdict
from deni.tasks import TASKS
from tests.helpers.access import serious
from tests.helpers.tiny import toy_rows, write_csv

SCRIPT = "<script>alert(1)</script>"
HOSTILE = {
    "billing": f"\"'>{SCRIPT}",
    "delivery": f"</script>{SCRIPT}",
    "login": "<img src=x onerror=alert(1)> {{ 7*7 }} datum['x']",
}
CLASSES = [f"class_number_{at:02}" for at in range(40)]


def train(rows, model_folder, folder, title="model", strategy="deni", test="0.2", **more):
    report = TrainingReport(title, "deni train 'some file.csv'")
    settings = {} if strategy == "default" else {"members": 3}
    plan = Recipe.of(None, strategy, "full", settings, model=model_folder, epochs=2, **more)
    file = write_csv(folder / "rows.csv", rows)
    train_file(file, recipe=plan, output=folder / "m", test=test, extra_files=report, progress=False)
    return folder / "m" / PAGE, report.summary


@pytest.fixture(scope="module")
def hostile(model_folder, tmp_path_factory):
    """A training whose texts, classes and title are no good."""
    rows = [(f"{text} {HOSTILE['login']} \x1b[31m{SCRIPT}", HOSTILE[label]) for text, label in toy_rows(20)]
    return train(rows, model_folder, tmp_path_factory.mktemp("hostile"), f"a title {SCRIPT}")


def test_the_page_opens_without_a_request_or_an_error_and_texts_are_text(opened, hostile):
    file, summary = hostile
    view = opened(file)
    assert view.said == []
    assert view.asked == [file.as_uri()]
    assert view.locator("img").count() == 0
    assert view.locator("script").count() == 3
    assert view.locator("h1").text_content() == f"a title {SCRIPT}"
    heads = view.locator("#table-confusion tbody th").all_text_contents()
    assert heads == summary.on_test.labels == sorted(HOSTILE.values())
    shown = view.locator(".texts li").all_text_contents()
    assert len(shown) == min(20, summary.on_test.texts)
    assert all(SCRIPT in each and "{{ 7*7 }}" in each for each in shown)
    assert "\x1b" not in file.read_text()
    for name in (SCRIPT, HOSTILE["login"]):
        assert name not in file.read_text()


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_nothing_on_the_page_keeps_people_from_reading_it(opened, hostile, width, scheme):
    pytest.importorskip("axe_playwright_python", reason="needs axe_playwright_python")
    assert serious(opened(hostile[0], width, scheme)) == []


def test_the_page_shows_the_numbers_of_the_training(opened, hostile):
    file, summary = hostile
    view, test = opened(file), summary.on_test
    rows = view.locator("#table-confusion tbody tr").all()
    shown = [[cell.text_content().replace("·", "0") for cell in row.locator("td").all()] for row in rows]
    assert np.array_equal(np.array(shown, dtype=int), test.confusion)
    assert view.locator(".tiles dd strong").first.text_content() == f"{100 * test.score.value:.1f}"
    for name in ("diversity", "excess", "reliability", "losses"):
        assert view.locator(f"#cards-{name} svg").count() == 1, name
    bands = view.locator("#cards-losses svg .mark-rect path").count()
    assert bands == sum(phase["members"] > 1 for phase in summary.phases) > 0
    points = view.locator("#cards-losses svg .mark-symbol path").count()
    assert points == len(summary.losses)
    view.locator("#table-labels thead th button", has_text="F1").click()
    f1 = [float(each) for each in view.locator("#table-labels tbody td:nth-child(4)").all_text_contents()]
    assert f1 == sorted(f1, reverse=True)
    assert view.locator("#repeat pre").first.text_content().splitlines()[-1] == "deni train 'some file.csv'"


def test_it_begins_with_the_verdict_and_bins_have_their_counts(opened, hostile):
    file, summary = hostile
    view = opened(file)
    first = view.locator("#summary .verdict li").all_text_contents()
    assert first == state_verdict(summary)
    counts = [int(each) for each in view.locator("#table-bins tbody td:nth-child(3)").all_text_contents()]
    assert sum(counts) == summary.on_test.texts
    drawn = view.locator("#cards-reliability svg .role-mark.mark-text text").all_text_contents()
    assert sorted(map(int, drawn)) == sorted(counts)


@pytest.mark.parametrize("width", [390, 1280])
def test_no_row_of_tiles_is_half_empty(opened, hostile, width):
    view = opened(hostile[0], width)
    rows = view.evaluate(
        """() => {
          const place = document.querySelector(".tiles").getBoundingClientRect();
          const rows = {};
          for (const each of document.querySelectorAll(".tiles > div")) {
            const { top, right } = each.getBoundingClientRect();
            rows[Math.round(top)] = Math.max(rows[Math.round(top)] ?? 0, right);
          }
          return Object.values(rows).map((right) => place.right - right);
        }"""
    )
    assert max(rows) < 2


NUMBERS = [(text, str(len(text) / 10)) for text, _ in toy_rows(10)]


@pytest.mark.parametrize(
    ("rows", "settings", "figures"),
    [
        (toy_rows(8), {"strategy": "ensemble"}, ["reliability", "losses"]),
        (toy_rows(8), {"strategy": "default", "test": "0"}, ["losses"]),
        (NUMBERS, {"task": "regression"}, ["points", "excess", "losses"]),
    ],
)
def test_what_has_no_rows_is_not_drawn(opened, model_folder, tmp_path, rows, settings, figures):
    view = opened(train(rows, model_folder, tmp_path, **settings)[0])
    assert view.said == []
    assert view.locator(".figure").evaluate_all("all => all.map((each) => each.id)") == figures


def many_classes(seed=0):
    """A made-up test part with 40 classes, the last of them always right."""
    draw = np.random.default_rng(seed)
    gold = np.repeat(np.arange(40), 6)
    said = np.where(draw.random(240) < 0.5, gold, draw.integers(30, size=240))
    said = np.where(gold >= 30, gold, said)
    members = np.full((240, 1, 40), -5.0)
    members[np.arange(240), 0, said] = 3
    members -= np.log(np.exp(members).sum(-1, keepdims=True))
    texts = Texts([f"a text of {CLASSES[each]}" for each in gold], None, "made", None)
    return texts, gold, members


@pytest.fixture(scope="module")
def wide(hostile, tmp_path_factory):
    """The same page with a confusion matrix of 40 classes."""
    import dataclasses

    from deni.analysis.performance import measure_performance
    from deni.finetune import Evaluation

    texts, gold, members = many_classes()
    metrics = TASKS["single_label"].scores(gold.tolist(), members[:, 0])
    given = Evaluation(texts, gold.tolist(), members, members[:, 0], metrics)
    found, missing = measure_performance("single_label", CLASSES, given, False, np.random.default_rng(0))
    file = tmp_path_factory.mktemp("wide") / PAGE
    summary = dataclasses.replace(hostile[1], on_test=found, missing=missing)
    file.write_text(page.build_page(summary, "wide"), encoding="utf-8")
    return file, found


def test_of_many_classes_those_with_errors_are_shown(opened, wide):
    file, found = wide
    assert isinstance(found, Performance)
    view = opened(file)
    heads = view.locator("#table-confusion tbody th").all_text_contents()
    assert heads == CLASSES[:30]
    assert "10 classes with fewer errors are left out" in view.locator("#table-confusion caption").text_content()
    assert view.locator("#table-labels tbody tr").count() == 40
    gold, said, count = found.confused[0]
    assert view.locator("#errors li").first.text_content() == f"{gold} taken for {said}: {count}"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_it_is_as_wide_as_its_window_and_every_count_can_be_read(opened, wide, width, scheme):
    view = opened(wide[0], width, scheme)
    assert view.said == []
    assert view.evaluate("document.documentElement.scrollWidth") <= width
    worst = min(contrast(*each) for each in view.evaluate(COLOURS_OF_CELLS))
    assert worst >= 4.5  # WCAG 2, AA


COLOURS_OF_CELLS = """[...document.querySelectorAll(".confusion td")].map((each) => {
  const paint = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgb = (colour) => {
    paint.fillStyle = colour;
    paint.fillRect(0, 0, 1, 1);
    return [...paint.getImageData(0, 0, 1, 1).data];
  };
  const style = getComputedStyle(each.firstElementChild ?? each);
  return [rgb(getComputedStyle(each).backgroundColor), rgb(style.color)];
})"""


def contrast(one, other):
    """The ratio of two colours' relative luminances, as WCAG 2 defines it."""
    parts = np.array([one[:3], other[:3]]) / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    low, high = sorted(linear @ [0.2126, 0.7152, 0.0722])
    return (high + 0.05) / (low + 0.05)


def test_it_prints_with_everything_open(opened, hostile):
    view = opened(hostile[0])
    view.emulate_media(media="print")
    view.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert view.locator("details").first.evaluate("each => each.open")
    assert not view.locator("nav").is_visible()


def test_what_a_terminal_gets_obeys_nothing(hostile):
    from io import StringIO

    from rich.console import Console
    from rich.table import Table

    from deni.report.training.terminal import print_summary
    from deni.report.training.tiles import cut

    said = StringIO()
    print_summary(hostile[1], Table(show_header=False, box=None), Console(file=said, width=100, force_terminal=False))
    assert "\x1b" not in said.getvalue()
    assert cut("a\x1b[31m \n b [bold]", 50) == "a [31m b [bold]"
    assert cut("a long text", 6) == "a lon…"


def test_labels_that_are_likely_wrong_are_listed_where_there_are_out_of_fold_predictions(opened, hostile, tmp_path):
    file, summary = hostile
    assert summary.wrong_labels is None
    assert "wrong-labels" not in file.read_text()
    rows = toy_rows(14)
    texts, labels = [f"{text} {SCRIPT}" for text, _ in rows], [label for _, label in rows]
    classes = sorted(set(labels))
    gold = np.array([classes.index(label) for label in labels])
    labels[5] = classes[(gold[5] + 1) % 3]
    frame = pd.DataFrame({"text": texts}, index=pd.RangeIndex(2, len(rows) + 2, name="line"))
    outputs = np.log(np.eye(3)[gold] * 0.9 + 0.1 / 3)[None]
    kept = OutOfFold({"vote": outputs}, np.zeros((1, len(rows)), int), gold.tolist(), digests_of(texts), classes)
    done = SimpleNamespace(
        result=SimpleNamespace(out_of_fold=kept, added={}), train=Texts(texts, labels, "rows.csv", frame)
    )
    found = list_wrong_labels(done)
    assert [(each.row, each.given, each.suggested) for each in found] == [("line 7", labels[5], classes[gold[5]])]
    (tmp_path / "page.html").write_bytes(as_utf8(page.build_page(replace(summary, wrong_labels=found), "wrong labels")))
    view = opened(tmp_path / "page.html")
    assert view.said == []
    (shown,) = view.locator("#wrong-labels li").all_text_contents()
    assert " ".join(shown.split()) == f"{texts[5]} ✗ {labels[5]} · suggested: {classes[gold[5]]} line 7, 93.3% sure"
    long = replace(summary, wrong_labels=[replace(found[0], text="x" * 900, given="y" * 200, suggested="z" * 200)])
    (tmp_path / "long.html").write_bytes(as_utf8(page.build_page(long, "long labels")))
    for scheme in ("light", "dark"):
        narrow = opened(tmp_path / "long.html", 390, scheme)
        assert narrow.evaluate("document.querySelector('#wrong-labels').scrollWidth") <= 390
        assert narrow.evaluate("document.documentElement.scrollWidth") <= 390
    none = page.build_page(replace(summary, wrong_labels=[]), "no wrong labels")
    assert "None of the training labels stands out" in none

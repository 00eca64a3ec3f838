"""The site of the documentation: it builds without a warning, asks no other host for anything, and finds words."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path

import click
import pytest

from deni.cli import COMMANDS, main
from tests.helpers.access import serious

ROOT = Path(__file__).parents[1]
FETCHED = {"img": "src", "script": "src", "link": "href", "iframe": "src", "source": "src", "object": "data"}

pytestmark = pytest.mark.skipif(
    find_spec("material") is None or find_spec("mkdocstrings") is None, reason="needs the extra docs"
)


class Resources(HTMLParser):
    """What a page fetches, and the ids in it."""

    def __init__(self, text):
        super().__init__()
        self.fetched, self.ids = [], set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.ids |= {given["id"]} if "id" in given else set()
        if (address := given.get(FETCHED.get(tag, ""))) and given.get("rel") not in ("canonical", "prev", "next"):
            self.fetched.append(address)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site):
    """Path in the site -> its page."""
    return {
        str(each.relative_to(site)): Resources(each.read_text(encoding="utf-8"))
        for each in site.rglob("*.html")
        if each.name != "404.html"
    }


def test_no_page_fetches_anything_from_another_host_or_anything_that_is_not_there(site, pages):
    assert len(pages) > 50
    for name, page in pages.items():
        for address in page.fetched:
            assert not re.match(r"(\w+:)?//", address), f"{name} fetches {address}"
            assert (site / name).parent.joinpath(re.split(r"[?#]", address)[0]).exists(), f"{name}: no {address}"
    for style in site.rglob("*.css"):
        assert not re.search(r"url\(\s*[\"']?(https?:)?//", style.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", COMMANDS)
def test_the_page_of_a_command_has_every_option_and_its_example(name, site):
    text = (site / "commands" / f"{name}.html").read_text(encoding="utf-8")
    command = main.get_command(click.Context(main), name)
    below = list(command.commands.values()) if isinstance(command, click.Group) else []
    for each in [command, *below]:
        for option in each.params:
            if isinstance(option, click.Option):
                assert all(f"{flag}" in text for flag in option.opts), option
    assert text.count("For example:") == 1 + len(below)


def test_every_module_has_its_place_in_the_api(pages):
    source = ROOT / "src"
    ids = set().union(*(page.ids for name, page in pages.items() if name.startswith("api/")))
    modules = {
        ".".join(each.relative_to(source).with_suffix("").parts).removesuffix(".__init__")
        for each in (source / "deni").rglob("*.py")
    }
    rest = {each for each in modules if each not in ("deni", "deni._version") and not each.startswith("deni.cli")}
    assert rest - ids == set()
    assert {
        "deni.artifact.loading.load",
        "deni.training.trainer.PopulationTrainer.train",
        "deni.measures.comparison.pitman_morgan",
    } <= ids


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_opened_as_files_the_site_asks_for_nothing_else_and_its_search_finds_words(chromium, site, width, scheme):
    context = chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = context.new_page()
    asked, said = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto((site / "index.html").as_uri())
    if width < 1000:
        page.locator("label.md-header__button[for=__search]").click()
    page.locator("input.md-search__input").click()
    page.locator("input.md-search__input").press_sequentially("pitman_morgan")
    page.wait_for_selector(".md-search-result__item a")
    assert "api/measures.html" in page.locator(".md-search-result__item a").first.get_attribute("href")
    page.goto((site / "strategies" / "deni.html").as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= width  # wide tables scroll by themselves
    assert [each for each in asked if not each.startswith(("file:", "data:", "blob:"))] == []
    assert said == []
    context.close()


READ = ["index", "five_minutes", "strategies/deni", "commands/train"]


@pytest.mark.skipif(find_spec("axe_playwright_python") is None, reason="needs axe_playwright_python")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_on_a_page_keeps_people_from_reading_it(chromium, site, scheme):
    page = chromium.new_page(viewport={"width": 1280, "height": 900}, color_scheme=scheme)
    for name in READ:
        page.goto((site / f"{name}.html").as_uri())
        page.add_style_tag(content="* { transition: none !important }")  # tabs fade in
        assert serious(page) == [], name
    page.close()


def test_axe_finds_what_is_wrong(chromium, tmp_path):
    pytest.importorskip("axe_playwright_python", reason="needs axe_playwright_python")
    file = tmp_path / "page.html"
    file.write_text(
        '<html lang="en"><title>t</title><main><h1 style="color:#ccc;background:#fff">pale</h1><img src="">'
    )
    page = chromium.new_page()
    page.goto(file.as_uri())
    assert {each.partition(":")[0] for each in serious(page)} == {"color-contrast", "image-alt"}
    page.close()


def test_a_page_is_read_with_the_keyboard(chromium, site):
    page = chromium.new_page()
    page.goto((site / "five_minutes.html").as_uri())
    page.keyboard.press("Tab")
    assert "md-skip" in page.evaluate("document.activeElement.className").split()
    focused = "getComputedStyle(document.activeElement).outlineStyle"
    page.locator("article a").nth(1).focus()
    page.keyboard.press("Tab")
    assert page.evaluate(focused) == "solid"
    page.close()

"""The gallery shows what its script makes, of commands that the page names."""

import re

from tests.helpers.scripts import ROOT, script

gallery = script("website/gallery.py")
PAGE = (ROOT / "docs" / "gallery.md").read_text(encoding="utf-8")


def files(picture):
    return [f"{picture.name}-{scheme}.png" for scheme in ("light", "dark")] if picture.page else [f"{picture.name}.svg"]


def test_every_picture_is_there_and_on_the_page():
    expected = {name for picture in gallery.PICTURES for name in files(picture)}
    assert {file.name for file in gallery.IMAGES.iterdir()} == expected
    assert set(re.findall(r"images/gallery/([\w.-]+)", PAGE)) == expected


def test_the_pictures_are_small():
    assert sum(file.stat().st_size for file in gallery.IMAGES.iterdir()) < 500_000


def test_commands_that_print_a_picture_are_on_the_page():
    for picture in gallery.PICTURES:
        if picture.command and not picture.page:
            assert picture.command in PAGE


def test_a_terminal_is_drawn_with_its_colors_and_asks_no_other_host():
    svg = gallery.draw_terminal("deni inspect tickets.csv", "plain\n\x1b[31mred\x1b[0m")
    assert "$&#160;deni&#160;inspect&#160;tickets.csv" in svg
    assert re.search(r'class="terminal-r\d+"[^>]*>red', svg)
    assert set(re.findall(r"https?://[^\"\s)]+", svg)) == {"http://www.w3.org/2000/svg"}


def test_progress_is_left_out():
    assert gallery.BAR.search("\x1b[2K\rinspect \x1b[91m\u2501\u2501 tokens")
    assert not gallery.BAR.search("tickets.csv: 60 texts")

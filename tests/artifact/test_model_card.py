"""Names that others chose stay names in the model card."""

import ast
import html
import re

import yaml
from markdown_it import MarkdownIt

from deni.artifact.model_card import card

NAMES = [
    "[link](http://x)",
    "`code`",
    "```",
    "<img src=x onerror=alert(1)>",
    "a|b",
    "two\nlines",
    "\x1b[31mred",
    "\u202eleft",
]


def test_the_card_of_hostile_names_has_their_text_and_nothing_of_their_markup():
    name = 'mine")\n# <b>x</b>'
    info = {"labels": NAMES, "runs": 1, "members": 1, "recipe": {"model": "a <script>/[b](c)"}}
    text = card(name, info)
    front, body = re.fullmatch(r"---\n(.*?)---\n(.*)", text, re.DOTALL).groups()
    assert set(yaml.safe_load(front)) == {"library_name", "pipeline_tag", "tags"}
    _, code, _ = re.split(r"^```(?:python)?\n", body, flags=re.MULTILINE)
    page = MarkdownIt("commonmark").render(body)
    assert re.findall("<(?!/?(?:h1|p|ul|li|code|pre)[ >]|/a>)[^>]*>", page) == [
        '<a href="https://arxiv.org/abs/2406.12471">'
    ]
    assert page.count("<h1>") == 1
    assert not {"\x1b", "\u202e"} & set(text)
    loaded = next(node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call) and node.args)
    assert ast.literal_eval(loaded.args[0]) == name
    shown = [html.unescape(each) for each in re.findall("<code>(.*?)</code>", page)]
    assert {*NAMES[:5], "two lines", "\\u001b[31mred", "\\u202eleft"} <= set(shown)

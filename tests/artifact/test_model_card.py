"""Names that others chose stay names in the model card."""

import ast
import re

import yaml

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
    prose, code, _ = re.split(r"^```(?:python)?\n", body, flags=re.MULTILINE)
    outside = re.sub(r"(`+)(?!`).*?(?<!`)\1(?!`)", "", prose)
    assert not re.search(r"(?<!\\)[<\[]", outside)
    assert not {"\x1b", "\u202e"} & set(text)
    loaded = next(node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call) and node.args)
    assert ast.literal_eval(loaded.args[0]) == name
    (line,) = [line for line in prose.splitlines() if "`code`" in line]
    for label in NAMES[:5]:
        assert label in line

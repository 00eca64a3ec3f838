"""One page that needs nothing else: the frame of every report, with its style, its scripts and its policy."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any

from deni._version import __version__
from deni.errors import InputError


@dataclass(frozen=True)
class Column:
    """A column of a table of the page.

    Args:
        title: its head.
        values: text of each row; a text that begins with a number is sorted as one.
        number: whether it is aligned as one.
        long: whether its texts may take several lines.
    """

    title: str
    values: Sequence[str]
    number: bool = True
    long: bool = False


def check_packages() -> None:
    """Raise InputError where a package is missing that a page needs: before minutes of work, not after them."""
    try:
        import altair  # noqa: F401
        import jinja2  # noqa: F401
        import vl_convert  # noqa: F401
    except ImportError as error:
        raise InputError(f'a page needs the package {error.name}: pip install "deni[report]"') from None


def render_page(name: str, title: str, data: Any, script_of: str = "", **values: Any) -> str:
    """The page as HTML; every name in it is escaped.

    Args:
        name: of its template and its script.
        script_of: the page whose script it has, where it has none.
        title: its head.
        data: what scripts get, as JSON.
        values: what the template needs.
    """
    import vl_convert

    vega = vl_convert.javascript_bundle()  # type: ignore[call-arg]  # its stub has no default
    vega = vega.replace("</script", "<\\/script")
    script = _read("shared.js") + _read(f"{script_of or name}.js")
    scripts = f"script-src {_digest(vega)} {_digest(script)}; "
    return _render(name, title, scripts, vega=vega, script=script, data=_json(data), **values)


def render_still(name: str, title: str, **values: Any) -> str:
    """A page without scripts, which needs jinja2 alone; every name in it is escaped.

    Args:
        name: of its template.
        title: its head.
        values: what the template needs.
    """
    return _render(name, title, **values)


def _render(name: str, title: str, scripts: str = "", **values: Any) -> str:
    """The page as HTML; `scripts` is the part of its policy that lets some run."""
    import jinja2

    environment = jinja2.Environment(
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        loader=jinja2.FunctionLoader(_read),
    )
    return environment.get_template(f"{name}.html").render(
        title=title,
        policy=f"default-src 'none'; style-src 'unsafe-inline'; {scripts}"
        "img-src data:; base-uri 'none'; form-action 'none'",
        style=_read("page.css"),
        version=__version__,
        made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        **values,
    )


def _read(name: str) -> str:
    return (files("deni.report.html") / name).read_text(encoding="utf-8")


def _digest(script: str) -> str:
    """The hash by which the page's policy knows its own scripts: no other one runs."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def _json(value: Any) -> str:
    """JSON that ends no script element, whatever it holds."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def json_value(value: Any) -> Any:
    """As JSON has it: five digits are enough to draw; non-finite numbers are null."""
    if isinstance(value, float):
        return float(f"{value:.5g}") if math.isfinite(value) else None
    return value


def table_of(columns: Sequence[Column]) -> dict[str, Any]:
    """Columns and rows, as the macro `table` takes them."""
    rows = zip(*(column.values for column in columns), strict=True)
    return {"columns": columns, "rows": [{"cells": list(cells)} for cells in rows]}

"""The page `/docs`: the OpenAPI description as plain HTML, without scripts and without a network."""

from __future__ import annotations

import json
from collections.abc import Iterator
from html import escape
from typing import Any

STYLE = """
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 52rem; margin: 2rem auto; padding: 0 1rem }
pre { overflow-x: auto; padding: .75rem; border: 1px solid; border-radius: .25rem; font-size: .85rem }
h2 code { font-size: 1.1rem }
table { border-collapse: collapse }
td, th { text-align: left; padding: .2rem 1rem .2rem 0; vertical-align: top }
"""


def docs_page(description: dict[str, Any], address: str, example: dict[str, Any], token: bool) -> str:
    """The page.

    Args:
        description: of OpenAPI.
        address: of the server, as the client wrote it.
        example: a request to `/predict`.
        token: whether one is needed.
    """
    title, about = escape(description["info"]["title"]), escape(description["info"]["description"])
    shown = [f"curl {address.rstrip('/')}/predict", "-H 'Content-Type: application/json'"]
    shown += ['-H "Authorization: Bearer $TOKEN"'] if token else []
    shown += [f"-d '{json.dumps(example)}'"]
    command = " \\\n  ".join(shown)
    body = [
        f"<h1>{title}</h1>",
        f'<p>{about} The same as <a href="openapi.json">openapi.json</a>.</p>',
        f"<pre tabindex=0>{escape(command)}</pre>",
    ]
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            body += _operation(path, method, operation)
    schemas = description.get("components", {}).get("schemas", {})
    body.append("<h2>Schemas</h2>")
    for name, schema in schemas.items():
        body.append(f'<h3 id="{escape(name)}">{escape(name)}</h3>{_code(schema)}')
    meta = '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
    head = f"<head>{meta}<title>{title}</title><style>{STYLE}</style></head>"
    return f'<!doctype html><html lang="en">{head}<body>{"".join(body)}</body></html>'


def _operation(path: str, method: str, operation: dict[str, Any]) -> Iterator[str]:
    yield f"<h2><code>{escape(method.upper())} {escape(path)}</code></h2>"
    yield f"<p>{escape(operation.get('description') or operation.get('summary', ''))}</p>"
    if "requestBody" in operation:
        yield f"<p>Body: {_schemas(operation['requestBody'])}</p>"
    yield "<table><tr><th>Status<th>What<th>Body</tr>"
    for status, response in operation["responses"].items():
        yield f"<tr><td>{escape(status)}<td>{escape(response['description'])}<td>{_schemas(response)}</tr>"
    yield "</table>"


def _schemas(message: dict[str, Any]) -> str:
    """Links to the schemas of a message, or its type where it has none."""
    found = []
    for kind, content in message.get("content", {}).items():
        name = content.get("schema", {}).get("$ref", "").rpartition("/")[2]
        found.append(f'<a href="#{escape(name)}">{escape(name)}</a>' if name else escape(kind))
    return ", ".join(found)


def _code(value: Any) -> str:
    return f"<pre tabindex=0>{escape(json.dumps(value, indent=2, ensure_ascii=False))}</pre>"

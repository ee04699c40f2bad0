# SPDX-License-Identifier: Apache-2.0
"""The page `/docs`: every route with its fields and a curl command; it needs no scripts and no network."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 56rem; margin: 2rem auto; padding: 0 1rem; }
h2 { font-size: 1.1rem; margin-top: 2.5rem; } code, pre { font-family: ui-monospace, monospace; }
pre { overflow-x: auto; padding: .75rem; border: 1px solid; border-radius: .25rem; }
table { border-collapse: collapse; }
td, th { text-align: left; vertical-align: top; padding: .2rem 1rem .2rem 0; }
"""


def docs_page(schema: Mapping[str, Any]) -> str:
    """An HTML page about the routes of an OpenAPI schema."""
    info = schema["info"]
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width">',
        f"<title>{escape(info['title'])}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{escape(info['title'])} {escape(info['version'])}</h1><p>{escape(info['description'])}</p>",
        '<p>The whole schema: <a href="openapi.json">openapi.json</a>. Bodies are JSON.</p>',
    ]
    for path, methods in schema["paths"].items():
        for method, route in methods.items():
            parts += _route(schema, path, method.upper(), route)
    return "".join([*parts, "</body></html>"])


def _route(schema: Mapping[str, Any], path: str, method: str, route: Mapping[str, Any]) -> Iterator[str]:
    yield f"<h2><code>{method} {escape(path)}</code> {escape(route.get('summary', ''))}</h2>"
    if text := route.get("description"):
        yield f"<p>{escape(text)}</p>"
    content = route.get("requestBody", {}).get("content", {}).get("application/json")
    if content is not None:
        body = _resolved(schema, content["schema"])
        required = body.get("required", ())
        yield "<table><tr><th>field</th><th></th><th>meaning</th></tr>"
        for name, field in body.get("properties", {}).items():
            need = "required" if name in required else ""
            meaning = escape(_meaning(field))
            yield f"<tr><td><code>{escape(name)}</code></td><td>{need}</td><td>{meaning}</td></tr>"
        yield "</table>"
        example = {name: _example(schema, body["properties"][name]) for name in required}
        curl = f"curl -s localhost:8100{path} -H 'Content-Type: application/json' \\\n  -d "
        yield f"<pre>{escape(curl + repr(json.dumps(example)))}</pre>"
    refusals = {s: r["description"] for s, r in route.get("responses", {}).items() if s not in ("200", "422")}
    if refusals:
        listed = "; ".join(f"{escape(status)}: {escape(text)}" for status, text in refusals.items())
        yield f"<details><summary>Refusals</summary><p>{listed}</p></details>"


def _resolved(schema: Mapping[str, Any], part: Mapping[str, Any]) -> Mapping[str, Any]:
    """A part of the schema, or what it refers to."""
    name = str(part.get("$ref", "")).rpartition("/")[2]
    found: Mapping[str, Any] = schema["components"]["schemas"][name] if name else part
    return found


def _meaning(field: Mapping[str, Any]) -> str:
    """What a field is: its description, or the fields of the rows that it holds."""
    item = field.get("items", {})
    if "required" in item:
        optional = sorted(set(item["properties"]) - set(item["required"]))
        return f"Rows with {', '.join(item['required'])}; optional: {', '.join(optional)}."
    return str(field.get("description", ""))


def _example(schema: Mapping[str, Any], field: Mapping[str, Any]) -> Any:
    """A value that the field takes."""
    field = _resolved(schema, field)
    if alternatives := field.get("anyOf") or field.get("oneOf"):
        return _example(schema, alternatives[0])
    if "const" in field or "enum" in field:
        return field.get("const", field.get("enum", [""])[0])
    if field.get("type") == "array":
        return [_example(schema, field.get("items", {}))]
    if field.get("type") == "object":
        properties = field.get("properties", {})
        return {name: _example(schema, properties[name]) for name in field.get("required", ())}
    return {"number": 1.0, "integer": 1, "boolean": True}.get(str(field.get("type")), "text")

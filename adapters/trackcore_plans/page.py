"""A plan as one page for people, in Markdown or HTML: each event with its properties."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import Any

import attrs

from trackcore import JSONObject
from trackcore.plans import PlanDocument, Rule, section_of
from trackcore.text import encode_json

_TITLES = ("property", "type", "required", "example", "description")
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 64rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; margin: 0.5rem 0 2rem; }
th, td { text-align: left; vertical-align: top; padding: 0.3rem 0.8rem 0.3rem 0; border-bottom: 1px solid #8884; }
nav { columns: 3; } code { overflow-wrap: anywhere; }
"""


@attrs.frozen
class _Row:
    """A property in a table: its cells, of which the first is a name."""

    name: str
    type: str
    required: str
    example: str
    description: str

    @property
    def cells(self) -> tuple[str, ...]:
        """The cells behind the name."""
        return self.type, self.required, self.example, self.description


def markdown_page(document: PlanDocument) -> str:
    """Return the page as Markdown."""
    lines = [f"# {_line(document.name) or 'Tracking plan'}", ""]
    lines += [_line(document.description), ""] if document.description else []
    for rule in document.rules:
        lines += [f"## {_line(_title(rule))}", ""]
        lines += [_line(rule.description), ""] if rule.description else []
        rows = list(_rows(rule))
        if not rows:
            lines += [_without_names(rule), ""]
            continue
        lines += [f"| {' | '.join(_TITLES)} |", f"|{' --- |' * len(_TITLES)}"]
        lines += [f"| {_code(row.name)} | {' | '.join(map(_cell, row.cells))} |" for row in rows]
        lines.append("")
    return "\n".join(lines)


def html_page(document: PlanDocument) -> str:
    """Return the page as HTML, complete in itself, with a list of the events."""
    name = escape(document.name or "Tracking plan")
    links = "".join(
        f'<div><a href="#rule-{at}">{escape(_title(rule))}</a></div>' for at, rule in enumerate(document.rules)
    )
    body = "".join(_section(at, rule) for at, rule in enumerate(document.rules))
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{name}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head>\n'
        f"<body><h1>{name}</h1><p>{escape(document.description)}</p><nav>{links}</nav>\n{body}</body></html>\n"
    )


def _section(at: int, rule: Rule) -> str:
    heading = f'<h2 id="rule-{at}">{escape(_title(rule))}</h2><p>{escape(rule.description)}</p>'
    rows = "".join(
        f"<tr><td><code>{escape(row.name)}</code></td>{''.join(f'<td>{escape(cell)}</td>' for cell in row.cells)}</tr>"
        for row in _rows(rule)
    )
    if not rows:
        return f"{heading}<p>{_without_names(rule)}</p>\n"
    return f"{heading}<table><tr>{''.join(f'<th>{title}</th>' for title in _TITLES)}</tr>{rows}</table>\n"


def _without_names(rule: Rule) -> str:
    what, section = rule.type.section, section_of(rule.schema, rule.type)
    if section.get("additionalProperties") is False:
        return f"No {what} are allowed."
    return f"No {what} are listed, so any are allowed."


def _title(rule: Rule) -> str:
    title = rule.key if rule.key is not None else rule.type.capitalize()
    return title if rule.version == 1 else f"{title}, version {rule.version}"


def _rows(rule: Rule) -> Iterator[_Row]:
    sections = rule.schema.get("properties", {})
    for name in ("properties", "traits", "context"):
        section = sections.get(name)
        if isinstance(section, dict):
            prefix = "" if name == rule.type.section else f"{name}."
            yield from _fields(section, prefix)


def _fields(schema: JSONObject, prefix: str) -> Iterator[_Row]:
    required = schema.get("required", ())
    for name, inner in schema.get("properties", {}).items():
        described = inner if isinstance(inner, dict) else {}
        yield _Row(
            name=f"{prefix}{name}",
            type=_type(described),
            required="yes" if name in required else "",
            example=_example(described.get("examples")),
            description=_description(described),
        )
        yield from _fields(described, f"{prefix}{name}.")
        items = described.get("items")
        if isinstance(items, dict):
            yield from _fields(items, f"{prefix}{name}[].")


def _type(schema: JSONObject) -> str:
    types = schema.get("type", "any")
    names = [types] if isinstance(types, str) else types
    shown = " or ".join(
        "date and time" if name == "string" and schema.get("format") == "date-time" else name for name in names
    )
    items = schema.get("items")
    return f"{shown} of {_type(items)}" if isinstance(items, dict) and shown == "array" else shown


def _description(schema: JSONObject) -> str:
    """Return the description, and the rules for the value."""
    rules = [f"{word} {_json(schema[keyword])}" for keyword, word in _RULES.items() if keyword in schema]
    seen = schema.get("x-seen")
    if isinstance(seen, dict) and isinstance(seen.get("types"), dict):
        types = ", ".join(f"{_count(count)} {name}" for name, count in seen["types"].items())
        rules.append(f"seen {_count(seen.get('count'))} times ({types})")
    return ". ".join(filter(None, (str(schema.get("description", "")).rstrip("."), "; ".join(rules))))


_RULES = {
    "enum": "one of",
    "const": "always",
    "pattern": "matches",
    "format": "of the format",
    "minimum": "at least",
    "maximum": "at most",
    "exclusiveMinimum": "more than",
    "exclusiveMaximum": "less than",
    "multipleOf": "a multiple of",
    "minLength": "characters at least",
    "maxLength": "characters at most",
}


def _count(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else "?"


def _example(examples: Any) -> str:
    return _json(examples[0]) if isinstance(examples, list) and examples else ""


def _json(value: Any) -> str:
    return "" if value is None else encode_json(value).decode()


# Markdown: text of a plan is never markup


def _line(text: str) -> str:
    escaped = "".join(f"\\{letter}" if letter in "\\`*_{}[]<>#|" else letter for letter in text)
    return " ".join(escaped.split())


def _cell(text: str) -> str:
    return _line(text)


def _code(text: str) -> str:
    return _line(text) if "`" in text or "|" in text else f"`{' '.join(text.split())}`"

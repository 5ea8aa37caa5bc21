"""Text from outside, made safe for a log, a terminal and a table."""

from __future__ import annotations


def visible(text: str) -> str:
    r"""Return text with every unprintable character escaped, terminal controls among them: `\x1b`, `\u2028`.

    Line breaks are escaped as well, so that no text can look like several lines of a log.
    """
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )

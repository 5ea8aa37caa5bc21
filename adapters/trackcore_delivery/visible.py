"""Text that somebody else wrote, made safe for a log, a terminal and a table."""

from __future__ import annotations


def visible(text: str) -> str:
    r"""Return text with every character that does not show, or acts on a terminal, as its escape: `\x1b`, `\u2028`.

    Line breaks are among them, so that no text can look like several lines of a log.
    """
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )

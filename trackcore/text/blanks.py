r"""Blank text: text without a visible character, which can be neither an id nor the name of an event.

RudderStack removes invisible characters from an id before it checks whether the id is empty, and so does trackcore: an
id of blanks alone would be shared by all users.  Blanks are white space, controls, and the invisible characters of
RudderStack's list (rudder-go-kit, `sanitize`): U+0000 to U+0020, U+007F to U+00A0, U+00AD, U+034F, U+061C, U+115F,
U+1160, U+1680, U+17B4, U+17B5, U+180E, U+2000 to U+200F, U+2028 to U+202F, U+205F to U+206F, U+2800, U+3000, U+3164,
U+FEFF, U+FFA0 and U+FFF9 to U+FFFB.  Characters for private use and unassigned ones are not blanks: some systems show
them, and the set of unassigned characters differs between versions of Unicode.
"""

from __future__ import annotations

import re

BLANKS = (
    r"\u0000-\u0020\u007f-\u00a0\u00ad\u034f\u061c\u115f\u1160\u1680\u17b4\u17b5\u180e\u2000-\u200f\u2028-\u202f"
    r"\u205f-\u206f\u2800\u3000\u3164\ufeff\uffa0\ufff9-\ufffb"
)
"""The blanks as a character class, for the brackets of a regular expression in Python and in JSON Schema."""

_BLANK = re.compile(f"[{BLANKS}]*+")


def is_blank(text: str) -> bool:
    """Return whether a text has no visible character."""
    return _BLANK.fullmatch(text) is not None

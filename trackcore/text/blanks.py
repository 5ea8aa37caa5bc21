r"""Blank text: what shows nothing, and so can be neither an id nor the name of an event.

RudderStack takes invisible characters out of an id before it looks whether one is left, and so do we: an id of blanks
alone would be the same for everybody.  Blank are white space, controls, and the invisible characters of RudderStack's
list (rudder-go-kit, `sanitize`): U+0000 to U+0020, U+007F to U+00A0, U+00AD, U+034F, U+061C, U+115F, U+1160, U+1680,
U+17B4, U+17B5, U+180E, U+2000 to U+200F, U+2028 to U+202F, U+205F to U+206F, U+2800, U+3000, U+3164, U+FEFF, U+FFA0
and U+FFF9 to U+FFFB.  Characters for private use, and those that Unicode has not assigned yet, are not: they show
something to somebody, and which they are differs from one version of Unicode to the next.
"""

from __future__ import annotations

import re

BLANKS = (
    r"\u0000-\u0020\u007f-\u00a0\u00ad\u034f\u061c\u115f\u1160\u1680\u17b4\u17b5\u180e\u2000-\u200f\u2028-\u202f"
    r"\u205f-\u206f\u2800\u3000\u3164\ufeff\uffa0\ufff9-\ufffb"
)
"""What is blank, as it stands between the brackets of a regular expression: of Python, and of JSON Schema."""

_BLANK = re.compile(f"[{BLANKS}]*+")


def is_blank(text: str) -> bool:
    """Return whether a text holds nothing that shows."""
    return _BLANK.fullmatch(text) is not None

"""Where an unexpected error comes from, in a form that is safe for a log.

The text of an exception quotes what it is about: a setting, a header with its token, a message.  So of an error that
nobody expected only its type and the places in the code are shown, never its text.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

_PLACES = 8
"""How many places of one error are shown: the innermost ones."""

_ERRORS = 8
"""How many errors are shown of those that led to one, or are grouped in it."""


def describe_unexpected(error: BaseException) -> str:
    """Return the types of an error and of those behind it, each with where in the code it was raised, on one line.

    KeyError at crm.py:12 in send, crm.py:40 in _post; after TimeoutError at crm.py:38 in _post
    """
    errors = list(_with_those_behind(error))
    shown = [_shown(each) for each in errors[:_ERRORS]]
    if len(errors) > _ERRORS:
        shown.append(f"{len(errors) - _ERRORS} more")
    return "; after ".join(shown)


def _shown(error: BaseException) -> str:
    places = deque(_places(error), _PLACES)
    return f"{_name(type(error))} at {', '.join(places)}" if places else _name(type(error))


def _name(kind: type[BaseException]) -> str:
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return _printable(name)


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text)


def _places(error: BaseException) -> Iterator[str]:
    """Yield where an error passed through, outermost first, as `file:line in function`."""
    step = error.__traceback__
    while step is not None:
        code = step.tb_frame.f_code
        file = code.co_filename.replace("\\", "/").rpartition("/")[2]
        yield _printable(f"{file}:{step.tb_lineno} in {code.co_name}")
        step = step.tb_next


def _with_those_behind(error: BaseException) -> Iterator[BaseException]:
    """Yield an error, those that are grouped in it, and those that led to it; each once, as they may form a ring."""
    seen: set[int] = set()
    waiting = deque([error])
    while waiting:
        each = waiting.popleft()
        if id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        if isinstance(each, BaseExceptionGroup):
            waiting.extend(each.exceptions)
        behind = each.__cause__ or (None if each.__suppress_context__ else each.__context__)
        if behind is not None:
            waiting.append(behind)

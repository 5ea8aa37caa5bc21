"""The origin of an unexpected error, in a form that is safe for a log.

The text of an exception may quote a setting, a header with its token, or a message.  So only the type of an unexpected
error and the places in the code are shown, never its text.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

_PLACES = 8  # of one error: the innermost ones
_ERRORS = 8  # that led to one or are grouped in it


def describe_unexpected(error: BaseException) -> str:
    """Return the types of an error and of its causes, each with the places where it was raised, on one line.

    KeyError at crm.py:12 in send, crm.py:40 in _post; after TimeoutError at crm.py:38 in _post
    """
    errors = list(_with_causes(error))
    shown = [_shown(each) for each in errors[:_ERRORS]]
    if len(errors) > _ERRORS:
        shown.append(f"{len(errors) - _ERRORS} more")
    return "; after ".join(shown)


def _shown(error: BaseException) -> str:
    places = ", ".join(deque(_places(error), _PLACES))
    return _name(type(error)) + (f" at {places}" if places else "")


def _name(kind: type[BaseException]) -> str:
    module = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    return _printable(module + kind.__qualname__)


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text)


def _places(error: BaseException) -> Iterator[str]:
    """Yield the places that an error passed through, outermost first, as `file:line in function`."""
    step = error.__traceback__
    while step is not None:
        code = step.tb_frame.f_code
        file = code.co_filename.replace("\\", "/").rpartition("/")[2]
        yield _printable(f"{file}:{step.tb_lineno} in {code.co_name}")
        step = step.tb_next


def _with_causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error, those that are grouped in it, and its causes; each once, since they may form a cycle."""
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
        cause = each.__cause__ or (None if each.__suppress_context__ else each.__context__)
        if cause is not None:
            waiting.append(cause)

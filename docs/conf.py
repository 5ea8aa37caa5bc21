"""The site: `poe docs` builds it from these pages, the docstrings and the help of the command."""

from __future__ import annotations

from importlib.metadata import version as version_of
from typing import Any

project = "trackcore"
author = "The trackcore developers"
version = release = version_of("trackcore")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_click", "sphinx_copybutton"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"trackcore {version}"
html_copy_source = False
html_show_copyright = False
suppress_warnings = ["misc.highlighting_failure"]  # an example of malformed JSON has its error on purpose

myst_heading_anchors = 3
myst_links_external_new_tab = False

napoleon_use_ivar = True  # the fields are members already
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "undoc-members": True}  # fields and members of enums have no docstring
autodoc_typehints_format = "short"
smartquotes = False  # `--option` stays as it is
default_role = "code"  # docstrings write code in single backticks, as Markdown does


def _as_literal_blocks(_app: Any, _context: Any, lines: list[str]) -> None:
    """Show the indented lines of an epilog, which are commands, as they are."""
    shown: list[str] = []
    for line in lines:
        text = line.removeprefix("| ").removeprefix("|")
        is_command = text.startswith("  ")
        if is_command and not (shown and shown[-1].startswith("  ")):
            shown += [shown.pop().rstrip(":") + "::", ""] if shown and shown[-1] else []
        if not is_command and shown and shown[-1].startswith("  "):
            shown.append("")
        shown.append(text.strip() if not is_command else f"  {text.strip()}")
    lines[:] = [*shown, ""]


def setup(app: Any) -> None:
    """Connect the hook of sphinx-click."""
    app.connect("sphinx-click-process-epilog", _as_literal_blocks)

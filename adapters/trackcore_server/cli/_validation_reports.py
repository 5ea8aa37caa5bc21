"""The formats in which `validate` reports its findings: for people, for programs, for GitHub, for readers of JUnit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import BinaryIO, Protocol, TypeAlias
from xml.etree import ElementTree as ET

import attrs

from trackcore.text import visible
from trackcore_server.cli._output import json_line
from trackcore_server.files.inputs import STDIN
from trackcore_server.files.validation import Finding, ValidationResult


class Report(Protocol):
    """Reports what was found in files, one after another."""

    def add(self, file: str, line: int, result: ValidationResult) -> None:
        """Report the findings in a document, which begins at a line of a file."""

    def end_file(self, file: str, messages: int, fault: str | None) -> None:
        """Report how many messages a file had, and why it could not be read, or not to its end."""

    def end(self) -> None:
        """Write what is not written yet."""


Line: TypeAlias = Callable[[str, int, Finding, bool], str]
"""Returns the line about a finding in a document of a file; the boolean is whether the document is a batch."""


@attrs.frozen
class LineReport:
    """A line for each finding, and in some formats for each file that could not be read."""

    _stream: BinaryIO
    _line: Line
    _fault: Callable[[str, str], str] | None = None

    def add(self, file: str, line: int, result: ValidationResult) -> None:
        """See `Report.add`."""
        for finding in result.findings:
            self._write(self._line(file, line, finding, result.is_batch))

    def end_file(self, file: str, messages: int, fault: str | None) -> None:
        """See `Report.end_file`."""
        del messages
        if fault is not None and self._fault is not None:
            self._write(self._fault(file, fault))

    def end(self) -> None:
        """See `Report.end`."""
        self._stream.flush()

    def _write(self, line: str) -> None:
        self._stream.write(f"{line}\n".encode("utf-8", "replace"))


def _text(file: str, line: int, finding: Finding, is_batch: bool) -> str:
    code = f"warning: {finding.code}" if finding.severity == "warning" else finding.code
    parts = (f"{file}:{line}", _place(finding, is_batch), code, finding.message)
    return visible(": ".join(filter(None, parts)))


def _json(file: str, line: int, finding: Finding, is_batch: bool) -> str:
    del is_batch
    known = {name: value for name, value in attrs.asdict(finding).items() if value is not None}
    return json_line({"file": file, "line": line, **known}).decode()


# GitHub: https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands


def _github(file: str, line: int, finding: Finding, is_batch: bool) -> str:
    message = ": ".join(filter(None, (_place(finding, is_batch), finding.message)))
    return _annotation("warning" if finding.severity == "warning" else "error", file, message, line, finding.code)


def _github_fault(file: str, fault: str) -> str:
    return _annotation("error", file, fault)


def _annotation(level: str, file: str, message: str, line: int | None = None, title: str | None = None) -> str:
    given = {"file": None if file == STDIN else file, "line": line, "title": title}
    settings = ",".join(
        f"{name}={_escaped(str(value), _SETTING)}" for name, value in given.items() if value is not None
    )
    return f"::{level}{' ' if settings else ''}{settings}::{_escaped(visible(message), _MESSAGE)}"


def _escaped(text: str, escapes: Mapping[int, str]) -> str:
    return text.translate(escapes)


_MESSAGE = str.maketrans({"%": "%25", "\r": "%0D", "\n": "%0A"})
_SETTING = _MESSAGE | str.maketrans({":": "%3A", ",": "%2C"})


# JUnit


@attrs.define
class JunitReport:
    """An XML document with a test suite for each file, and in it a failure for each rejection and each violation.

    The accepted messages of a file are one test case together, so that the document stays as small as the number of
    rejections.  Warnings are the output of the suite.
    """

    _stream: BinaryIO
    _suites: ET.Element = attrs.field(init=False, factory=lambda: ET.Element("testsuites", name="trackcore validate"))
    _cases: list[ET.Element] = attrs.field(init=False, factory=list)
    _warnings: list[str] = attrs.field(init=False, factory=list)
    _failed_messages: int = attrs.field(init=False, default=0)

    def add(self, file: str, line: int, result: ValidationResult) -> None:
        """See `Report.add`."""
        self._failed_messages += result.rejected + result.violating
        for finding in result.findings:
            if finding.severity == "warning":
                self._warnings.append(_text(file, line, finding, result.is_batch))
            else:
                self._cases.append(_failed_case(file, line, finding, result.is_batch))

    def end_file(self, file: str, messages: int, fault: str | None) -> None:
        """See `Report.end_file`."""
        suite = ET.SubElement(self._suites, "testsuite", name=visible(file))
        accepted = messages - self._failed_messages
        suite.extend([_case(file, f"{accepted} accepted"), *self._cases])
        if fault is not None:
            case = _case(file, "read the file")
            ET.SubElement(case, "error", type="unreadable", message=visible(fault))
            suite.append(case)
        suite.attrib |= {
            "tests": str(len(suite)),
            "failures": str(len(self._cases)),
            "errors": str(int(fault is not None)),
        }
        if self._warnings:
            ET.SubElement(suite, "system-out").text = "\n".join(self._warnings)
        self._cases, self._warnings, self._failed_messages = [], [], 0

    def end(self) -> None:
        """See `Report.end`."""
        for name in ("tests", "failures", "errors"):
            self._suites.set(name, str(sum(int(suite.attrib[name]) for suite in self._suites)))
        ET.indent(self._suites)
        self._stream.write(ET.tostring(self._suites, encoding="utf-8", xml_declaration=True) + b"\n")
        self._stream.flush()


def _failed_case(file: str, line: int, finding: Finding, is_batch: bool) -> ET.Element:
    index = "" if finding.index is None else f", message {finding.index}"
    case = _case(file, f"line {line}{index}")
    text = _text(file, line, finding, is_batch)
    ET.SubElement(case, "failure", type=finding.code, message=visible(finding.message)).text = text
    return case


def _case(file: str, name: str) -> ET.Element:
    return ET.Element("testcase", classname=visible(file), name=name)


def _place(finding: Finding, is_batch: bool) -> str:
    """Return where in its document a finding is."""
    index = "" if finding.index is None else f"{'batch' if is_batch else ''}[{finding.index}]"
    return f"{index}.{finding.path}".strip(".")


FORMATS: Mapping[str, Callable[[BinaryIO], Report]] = {
    "text": lambda stream: LineReport(stream, _text),
    "json": lambda stream: LineReport(stream, _json),
    "github": lambda stream: LineReport(stream, _github, _github_fault),
    "junit": JunitReport,
}

"""Plans in files: read in any form, which its content tells, and written in any other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any

import attrs
import msgspec
import tomli_w
import yaml

from trackcore import JSONObject
from trackcore.plans import InvalidPlan, Plan, PlanDocument, PlanMistake
from trackcore_plans.forms.config_api import read_config, write_config
from trackcore_plans.forms.notes import lost
from trackcore_plans.forms.own import read_own, rules_in, write_own
from trackcore_plans.forms.rudder import PLAN_KINDS, is_rudder, read_rudder
from trackcore_plans.forms.rudder_writer import V0_1, V1, write_rudder
from trackcore_plans.forms.segment import is_flattened, read_segment, write_flattened, write_segment
from trackcore_plans.parts import Part
from trackcore_plans.texts import YAML_SUFFIXES, parse_text, read_text
from trackcore_plans.validator import compile_schema


class Form(StrEnum):
    """The forms in which a plan is written."""

    SEGMENT = "segment"
    TYPEWRITER = "typewriter"
    CONFIG = "config"
    RUDDER = "rudder"
    RUDDER_V0_1 = "rudder-v0.1"
    YAML = "yaml"
    TOML = "toml"


@attrs.frozen(kw_only=True)
class PlanFile:
    """A plan that was read, ready to check messages, and the form in which it was written."""

    plan: Plan
    form: Form

    @property
    def document(self) -> PlanDocument:
        """The plan as data."""
        return self.plan.document


def read_plan(path: Path) -> PlanFile:
    """Read a plan from a file, or from the YAML files in a folder.  Raises `InvalidPlan` and `OSError`."""
    if path.is_dir():
        return _recognized(str(path), _of_folder(path))
    documents = parse_text(read_text(path), str(path))
    if any(map(_is_plan, documents)):
        beside = [file for file in _yaml_files(path.parent) if file != path]
        documents += [document for document in _of_rudder(beside) if not _is_plan(document)]
    return _recognized(str(path), documents)


def parse_plan(text: str, name: str = "") -> PlanFile:
    """Read a plan from a text; the end of the name tells TOML and YAML.  Raises `InvalidPlan`."""
    return _recognized(name, parse_text(text, name))


def load_plan(path: Path) -> Plan:
    """Read a plan that checks messages.  Raises `InvalidPlan` and `OSError`."""
    return read_plan(path).plan


def write_plan(document: PlanDocument, form: Form) -> tuple[str, list[str]]:
    """Return a plan as the text of a form, and notes on what the form has no words for."""
    if form in {Form.RUDDER, Form.RUDDER_V0_1}:
        documents, notes = write_rudder(document, V1 if form is Form.RUDDER else V0_1)
        return yaml.safe_dump_all(documents, sort_keys=False, allow_unicode=True, width=120), notes
    if form is Form.YAML:
        plan, notes = write_own(document)
        return yaml.safe_dump(plan, sort_keys=False, allow_unicode=True, width=120), notes
    if form is Form.TOML:
        return _toml(document)
    write = {Form.SEGMENT: write_segment, Form.TYPEWRITER: write_flattened, Form.CONFIG: write_config}[form]
    plan, notes = write(document)
    return msgspec.json.format(msgspec.json.encode(plan), indent=2).decode() + "\n", notes


def _toml(document: PlanDocument) -> tuple[str, list[str]]:
    plan, notes = write_own(document)
    cleaned = _without_null(plan)
    if cleaned != plan:
        notes.append(lost("the schemas", "null in enums, constants and examples, as TOML has no word for it"))
    return tomli_w.dumps(cleaned), notes


def _without_null(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_null(item) for name, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_null(item) for item in value if item is not None]
    return value


def _of_folder(folder: Path) -> list[Any]:
    """Return the documents of rudder-cli in a folder; if there are none, those of its only YAML file."""
    files = _yaml_files(folder)
    return list(_of_rudder(files)) or [
        document for file in files for document in parse_text(read_text(file), str(file))
    ]


def _of_rudder(files: Iterable[Path]) -> Iterator[Any]:
    """Yield the documents of rudder-cli in some files.  Others, which need not even be YAML, are skipped."""
    for file in files:
        text = read_text(file)
        if "rudder/" in text:
            yield from filter(is_rudder, parse_text(text, str(file)))


def _yaml_files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.suffix.lower() in YAML_SUFFIXES and file.is_file())


def _is_plan(document: Any) -> bool:
    """Return whether a document is a plan of rudder-cli, which refers to others."""
    return is_rudder(document) and str(document["kind"]) in PLAN_KINDS


def _recognized(name: str, documents: list[Any]) -> PlanFile:
    try:
        return _read(name, documents)
    except RecursionError:
        raise InvalidPlan(file=name, mistakes=(PlanMistake(detail="is nested too deeply"),)) from None


def _read(name: str, documents: list[Any]) -> PlanFile:
    mistakes = Part(None).mistakes
    parts = [Part(document, (), mistakes) for document in documents]
    if documents and all(map(is_rudder, documents)):
        version = next((item["version"] for item in documents if _is_plan(item)), "rudder/v1")
        document, form = read_rudder(parts), Form.RUDDER if version == "rudder/v1" else Form.RUDDER_V0_1
    elif len(documents) == 1:
        document, form = _one(name, parts[0])
    else:
        Part(None, (), mistakes).mistake(f"expected one document, found {len(documents)}")
        document, form = PlanDocument(), Form.YAML
    if mistakes:
        raise InvalidPlan(file=name, mistakes=tuple(mistakes))
    try:
        return PlanFile(plan=Plan.compile(document, compile_schema), form=form)
    except InvalidPlan as error:
        raise attrs.evolve(error, file=name) from None


def _one(name: str, part: Part) -> tuple[PlanDocument, Form]:
    value: JSONObject | list[Any] = part.value
    if isinstance(value, list):
        return read_segment(part), Form.SEGMENT
    if isinstance(value, dict) and isinstance(value.get("rules"), dict):
        return read_config(part), Form.CONFIG
    if isinstance(value, dict) and ("rules" in value or "data" in value):
        return read_segment(part), Form.TYPEWRITER if "rules" in value and is_flattened(value) else Form.SEGMENT
    if isinstance(value, dict) and any(rules_in(value)):
        return read_own(part), Form.TOML if name.lower().endswith(".toml") else Form.YAML
    part.mistake("not a tracking plan: expected `rules` (Segment), a `kind` (rudder-cli), or `events` (our own form)")
    return PlanDocument(), Form.YAML

"""The forms of plans: each is recognized by its content, read, and written from each other."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
import yaml
from attrs import evolve
from plan_helpers import any_schema, rule, track
from plan_helpers import found as in_order
from trackcore_plans import Form, compile_schema, load_plan, parse_plan, read_plan, write_plan
from trackcore_plans.essence import essence
from trackcore_plans.texts import parse_text

from trackcore import JSONObject
from trackcore.plans import InvalidPlan, Plan, PlanDocument, PlanMistake, RuleType

FIXTURES = Path(__file__).parent / "fixtures"
FILES = {
    "segment.json": Form.SEGMENT,
    "typewriter.json": Form.TYPEWRITER,
    "config.json": Form.CONFIG,
    "plan.yaml": Form.YAML,
    "plan.toml": Form.TOML,
    "rudder/plan.yaml": Form.RUDDER_V0_1,
    "rudder": Form.RUDDER_V0_1,
    "rudder-v1.yaml": Form.RUDDER,
}
ENDINGS = {Form.YAML: ".yaml", Form.TOML: ".toml", Form.RUDDER: ".yaml", Form.RUDDER_V0_1: ".yaml"}


def found(plan: Plan, message: JSONObject) -> list[tuple[str, str]]:
    """Return the kinds and paths of the violations, sorted."""
    return sorted(in_order(plan, message))


def essences(document: PlanDocument) -> set[str]:
    """Return the rules of a plan without all that means nothing."""
    rules = ((rule.type, rule.key, rule.version, essence(rule.schema)) for rule in document.rules)
    return {json.dumps(rule, sort_keys=True) for rule in rules}


def converted(document: PlanDocument, form: Form) -> tuple[PlanDocument, list[str]]:
    text, notes = write_plan(document, form)
    return parse_plan(text, f"plan{ENDINGS.get(form, '.json')}").document, notes


def document_of(name: str) -> PlanDocument:
    return read_plan(FIXTURES / name).document


class TestReading:
    """Forms are recognized by their content."""

    @pytest.mark.parametrize("write", [lambda schema: schema, json.dumps])
    def test_terraform_writes_the_schema_of_a_rule_by_another_name(self, write: Callable[[JSONObject], Any]) -> None:
        """`rules = [{key, type, version, json_schema = jsonencode({...})}]`, of `segment_tracking_plan`."""
        plan = json.loads((FIXTURES / "segment.json").read_text())
        expected = essences(parse_plan(json.dumps(plan)).document)
        for each in plan["rules"]:
            each["json_schema"] = write(each.pop("jsonSchema"))
        assert essences(parse_plan(json.dumps(plan)).document) == expected

    def test_a_schema_that_is_no_json_is_a_mistake(self) -> None:
        with pytest.raises(InvalidPlan, match=r"rules\[0\]\.json_schema: is not JSON"):
            parse_plan('{"name": "Shop", "rules": [{"type": "TRACK", "key": "E", "json_schema": "{"}]}')

    @pytest.mark.parametrize(("name", "form"), FILES.items())
    def test_each_is_recognized_and_its_rules_can_check(self, name: str, form: Form) -> None:
        assert read_plan(FIXTURES / name).form is form
        plan = load_plan(FIXTURES / name)
        assert plan.document.name == "Shop"
        assert ("unplanned_event", "event") in found(plan, track("Order completed"))

    def test_segment(self) -> None:
        plan = load_plan(FIXTURES / "segment.json")
        message = {**track(total="1", products=[{}], other=1), "context": {"app": {}}}
        assert found(plan, message) == sorted(
            [
                ("required_missing", "properties.products[0].sku"),
                ("wrong_type", "properties.total"),
                ("unplanned_property", "properties.other"),
            ]
        )
        assert found(plan, {"type": "page"}) == [("common_rule", "context.app")]

    def test_typewriter_8(self) -> None:
        plan = load_plan(FIXTURES / "typewriter.json")
        assert found(plan, track("42_--odd==\\\"name'", anything=1)) == []
        assert found(plan, track(context=1)) == sorted(
            [
                ("required_missing", "properties.order id"),
                ("wrong_type", "properties.context"),
            ]
        )
        assert found(plan, {"type": "identify", "traits": {}}) == [("required_missing", "traits.email")]

    def test_config_api(self) -> None:
        plan = load_plan(FIXTURES / "config.json")
        assert found(plan, track()) == [("common_rule", "channel"), ("required_missing", "properties.total")]
        assert plan.document.rules[0].description == "An order was paid."

    @pytest.mark.parametrize("name", ["rudder/plan.yaml", "rudder"])
    def test_rudder_cli(self, name: str) -> None:
        plan = load_plan(FIXTURES / name)
        assert found(plan, track(method="card", card={"city": "Ulm"}, tags=["a", 1])) == []
        assert found(plan, track(method="card", total=1)) == [("required_missing", "properties.card")]
        assert found(plan, track(method="cash", address={})) == sorted(
            [
                ("required_missing", "properties.total"),
                ("required_missing", "properties.address.city"),
            ]
        )
        assert found(plan, track(method="cash", total=-1, tags=[1.5], other=1)) == sorted(
            [
                ("wrong_value", "properties.total"),
                ("wrong_type", "properties.tags[0]"),
                ("unplanned_property", "properties.other"),
            ]
        )
        assert found(plan, track("Empty", x=1)) == [("unplanned_property", "properties.x")]
        assert found(plan, track("Free", x=1)) == []
        assert found(plan, {"type": "identify", "context": {"traits": {}}}) == [
            ("required_missing", "context.traits.city")
        ]

    def test_other_files_beside_a_plan_of_rudder_cli(self, tmp_path: Path) -> None:
        copytree(FIXTURES / "rudder", tmp_path / "plans")
        (tmp_path / "plans" / "deployment.yaml").write_text("replicas: {{ .Values.replicas }}\n")
        (tmp_path / "plans" / "ci.yml").write_text("on: push\n")
        for path in (tmp_path / "plans", tmp_path / "plans" / "plan.yaml"):
            assert essences(read_plan(path).document) == essences(document_of("rudder"))

    def test_custom_types_that_double(self) -> None:
        types: list[JSONObject] = [{"id": "0", "name": "t", "type": "string"}]
        properties = []
        for level in range(1, 40):
            names = [f"p{level}a", f"p{level}b"]
            properties += [{"id": name, "name": name, "type": f"#custom-type:{level - 1}"} for name in names]
            uses = [{"property": f"#property:{name}"} for name in names]
            types.append({"id": str(level), "name": "t", "type": "object", "properties": uses})
        properties.append({"id": "all", "name": "all", "type": "#custom-type:39"})
        rule: JSONObject = {"event": "#event:e", "properties": [{"property": "#property:all"}]}
        specs: dict[str, JSONObject] = {
            "custom-types": {"types": types},
            "properties": {"properties": properties},
            "events": {"events": [{"id": "e", "name": "E"}]},
            "tracking-plan": {"rules": [rule]},
        }
        documents = [{"version": "rudder/v1", "kind": kind, "spec": spec} for kind, spec in specs.items()]
        with pytest.raises(InvalidPlan, match="more than 10000 parts"):
            parse_plan(yaml.safe_dump_all(documents), "plan.yaml")

    def test_rudder_v1(self) -> None:
        plan = load_plan(FIXTURES / "rudder-v1.yaml")
        assert found(plan, track(method="card", city="Ulm", tags=["a", 1], address={"city": "Ulm"})) == []
        assert found(plan, track(method="cash", total=0.5, other=1)) == sorted(
            [
                ("wrong_value", "properties.total"),
                ("unplanned_property", "properties.other"),
            ]
        )

    def test_our_own(self) -> None:
        plan = load_plan(FIXTURES / "plan.yaml")
        app: JSONObject = {"context": {"app": {}}}
        assert found(plan, {**track(order_id="o", total=1, tags=["a"], note=[], address={"city": "Ulm"}), **app}) == []
        assert found(plan, {**track(order_id=1, paid_at="x", tags=[1], address={}), "context": {}}) == sorted(
            [
                ("required_missing", "properties.total"),
                ("required_missing", "properties.address.city"),
                ("wrong_type", "properties.order_id"),
                ("wrong_value", "properties.paid_at"),
                ("wrong_type", "properties.tags[0]"),
                ("common_rule", "context.app"),
            ]
        )

    def test_our_own_closed_rules(self) -> None:
        text = (
            "events:\n- {event: A, closed: true}\n- {event: B, closed: true, properties: {x: any}, context: {app: any}}"
        )
        plan = parse_plan(text, "plan.yaml").plan
        assert found(plan, {**track("A"), "context": {"ip": "::1"}}) == []
        assert found(plan, track("A", x=1)) == [("unplanned_property", "properties.x")]
        assert found(plan, {**track("B", x=1), "context": {"ip": "::1"}}) == []
        assert found(plan, track("B", y=1)) == [("unplanned_property", "properties.y")]

    @pytest.mark.parametrize("wrap", [lambda plan: {"data": {"trackingPlan": plan}}, lambda plan: plan["rules"]])
    def test_responses_of_the_api_and_lists_of_rules(self, wrap: Any) -> None:
        plan = json.loads((FIXTURES / "segment.json").read_text())
        assert essences(parse_plan(json.dumps(wrap(plan))).document) == essences(document_of("segment.json"))

    def test_a_page_of_rules(self) -> None:
        rules = json.loads((FIXTURES / "segment.json").read_text())["rules"]
        page: JSONObject = {"data": {"rules": rules, "pagination": {"current": "a"}}}
        assert len(parse_plan(json.dumps(page)).document.rules) == 4
        page["data"]["pagination"]["next"] = "b"
        with pytest.raises(InvalidPlan, match="there are further pages"):
            parse_plan(json.dumps(page))


class TestWriting:
    """`convert` there and back loses nothing that a form has words for, and states the rest."""

    @pytest.mark.parametrize("name", FILES)
    @pytest.mark.parametrize("form", Form)
    def test_without_notes_nothing_is_lost(self, name: str, form: Form) -> None:
        document = document_of(name)
        back, notes = converted(document, form)
        is_same = essences(back) == essences(document) and [rule.extra for rule in back.rules] == [
            rule.extra for rule in document.rules
        ]
        assert is_same or notes, f"{name} as {form}"

    @pytest.mark.parametrize("name", FILES)
    @pytest.mark.parametrize("form", [Form.SEGMENT, Form.YAML])
    def test_these_forms_have_words_for_every_schema(self, name: str, form: Form) -> None:
        document = document_of(name)
        assert essences(converted(document, form)[0]) == essences(document)

    @pytest.mark.parametrize(("name", "form"), FILES.items())
    def test_a_plan_survives_its_own_form(self, name: str, form: Form) -> None:
        document = document_of(name)
        back, notes = converted(document, form)
        if form not in {Form.RUDDER, Form.RUDDER_V0_1}:  # which has variants and custom types that we do not write
            assert notes == []
            assert essences(back) == essences(document)
            assert back.extra == document.extra
            assert [rule.extra for rule in back.rules] == [rule.extra for rule in document.rules]

    @pytest.mark.parametrize("form", [Form.RUDDER, Form.RUDDER_V0_1])
    def test_rudder_cli_gets_an_event_with_its_properties(self, form: Form) -> None:
        back, notes = converted(document_of("plan.toml"), form)
        plan = Plan.compile(back, compile_schema)
        assert found(plan, track(order_id="o", total=1)) == []
        assert found(plan, track(total="1")) == sorted(
            [
                ("required_missing", "properties.order_id"),
                ("wrong_type", "properties.total"),
            ]
        )
        assert found(plan, {"type": "identify", "traits": {"email": 1}}) == [("wrong_type", "traits.email")]
        assert notes == ['track "Order Completed".order_id: lost keywords: examples']

    def test_what_is_lost_is_stated(self) -> None:
        document = document_of("segment.json")
        assert converted(document, Form.TYPEWRITER)[1] == ["common: lost: the rule, as there is none for all messages"]
        lost = "id, slug, type, createdAt, updatedAt, resourceSchemaId, deprecatedAt"
        assert converted(document, Form.YAML)[1] == [f"the plan and its rules: lost fields: {lost}"]
        assert (
            'track "Order Completed" version 2: lost: the rule, as there are no versions and no common rules'
            in (converted(document, Form.RUDDER)[1])
        )

    @pytest.mark.parametrize(
        ("form", "notes"),
        [
            (Form.SEGMENT, []),
            (Form.CONFIG, ["identify: lost fields: id"]),
            (Form.YAML, ["the plan and its rules: lost fields: id", "the schemas: lost keywords: labels, title"]),
            (Form.RUDDER, ["identify: lost keywords: labels", "identify.email: lost keywords: title"]),
        ],
    )
    def test_titles_and_labels(self, form: Form, notes: list[str]) -> None:
        section = {"labels": {"owner": "web"}, "properties": {"email": {"type": "string", "title": "E-mail"}}}
        rules = (evolve(rule(None, section, RuleType.IDENTIFY), extra={"id": "r1"}),)
        assert converted(PlanDocument(name="Shop", rules=rules), form)[1] == notes

    def test_our_own_form_is_short(self) -> None:
        text, _ = write_plan(document_of("segment.json"), Form.YAML)
        (first, *_) = yaml.safe_load(text)["events"]
        assert first == {
            "event": "Order Completed",
            "description": "An order was paid.",
            "properties": {
                "total": {"type": "number", "required": True},
                "currency": {"type": ["string", "null"], "pattern": "^[A-Z]{3}$"},
                "products": {
                    "type": "array",
                    "items": {"type": "object", "properties": {"sku": {"type": "string", "required": True}}},
                },
                "at": {"type": "string", "example": "2026-01-31T12:00:00Z", "format": "date-time"},
            },
        }

    def test_a_schema_without_short_words_is_kept_whole(self) -> None:
        schema = {"type": "object", "anyOf": [{"required": ["userId"]}, {"required": ["context"]}]}
        rules = [{"type": "COMMON", "jsonSchema": schema}]
        text, notes = write_plan(parse_plan(json.dumps({"rules": rules})).document, Form.YAML)
        assert yaml.safe_load(text) == {"common": {"schema": schema}}
        assert notes == []


def _multiplied(levels: int, times: int) -> str:
    """Return YAML in which each line refers to the one before, several times."""
    lines = ["l0: &l0 [x]"]
    lines += [f"l{at}: &l{at} [{', '.join([f'*l{at - 1}'] * times)}]" for at in range(1, levels + 1)]
    return "\n".join(lines)


def mistakes(text: str, name: str = "plan.json") -> list[str]:
    with pytest.raises(InvalidPlan) as caught:
        parse_plan(text, name)
    assert caught.value.file == name
    return [str(mistake) for mistake in caught.value.mistakes]


class TestMistakes:
    """Each mistake is reported with its location."""

    def test_syntax(self) -> None:
        assert mistakes('{\n  "rules": [,]}') == ["line 2: is not JSON, at column 13: Expecting value"]
        assert mistakes("a: 1\nb: [", "plan.yaml")[0].startswith("line 2: is not YAML: ")
        assert mistakes("a = [", "plan.toml")[0].startswith("is not TOML: ")

    def test_a_name_twice(self) -> None:
        assert mistakes("name: a\nname: b", "plan.yaml") == [
            "line 2: is not YAML: the name 'name' is in one object twice"
        ]
        assert mistakes('{"rules": [], "rules": []}') == ["cannot be read: the name 'rules' is in one object twice"]

    @pytest.mark.parametrize(
        ("text", "name"),
        [
            ('{"a": NaN}', "plan.json"),
            ('{"a": 1e999}', "plan.json"),
            ("a = inf", "plan.toml"),
            ("a: 1e999", "plan.yaml"),
            ("a: !!timestamp 2026-01-31", "plan.yaml"),
            ("a: !!bool maybe", "plan.yaml"),
        ],
    )
    def test_values_that_json_does_not_have(self, text: str, name: str) -> None:
        (mistake,) = mistakes(text, name)
        assert "not a tracking plan" not in mistake

    @pytest.mark.parametrize("text", ["a: &a [*a]", _multiplied(9, 10)])
    def test_references_that_multiply(self, text: str) -> None:
        (mistake,) = mistakes(text, "plan.yaml")
        assert mistake.endswith("is not YAML: its references multiply too many values")

    @pytest.mark.parametrize("text", ['{"rules": ' * 700 + "1" + "}" * 700, '{"events": [' * 5_000])
    def test_nesting(self, text: str) -> None:
        assert mistakes(text)

    def test_a_schema_that_is_nested_deeply(self) -> None:
        text = '{"events": [{"event": "A", "properties": {"x": ' + '{"items": ' * 400 + '"any"' + "}" * 403
        assert mistakes(text.replace("}" * 403, "}" * 400 + "}}]}"))

    def test_several_at_once(self) -> None:
        rules = [
            {"type": "TRACK", "jsonSchema": []},
            {"type": "TRAK", "jsonSchema": {}},
            {"type": "PAGE", "version": "1"},
        ]
        assert mistakes(json.dumps({"rules": rules})) == [
            "rules[0].jsonSchema: expected an object, found an array",
            "rules[0].key: a rule of the type TRACK needs the name of its event",
            "rules[1].type: expected one of COMMON, TRACK, IDENTIFY, GROUP, PAGE, SCREEN, found 'TRAK'",
            "rules[2].jsonSchema: expected an object, found nothing",
            "rules[2].version: expected an integer, found a text",
        ]

    def test_our_own_form(self) -> None:
        text = "events:\n  - evnt: A\n    properties: {x: strin, y: {tpye: string}, z: {type: string, required: 1}}"
        types = "any, datetime, array, boolean, integer, null, number, object, string"
        assert mistakes(text, "plan.yaml") == [
            "events[0].evnt: unknown; did you mean 'event'?",
            "events[0].event: an event needs its name",
            "events[0].properties.z.required: expected a boolean, found an integer",
            f"events[0].properties.x: there is no type 'strin' here; there are {types}, and X[] for arrays",
            "events[0].properties.y.tpye: unknown; did you mean 'type'?",
        ]

    def test_our_own_form_has_each_mistake_once(self) -> None:
        wanted = "{a: 5, b: {type: 5}, c: [datetime, 5], d: {examples: 5, example: x}}"
        types = "array, boolean, integer, null, number, object, string"
        assert mistakes(f"events:\n  - event: A\n    properties: {wanted}", "plan.yaml") == [
            "events[0].properties.a: expected a type, a list of types, or an object",
            "events[0].properties.b.type: expected a text, found an integer",
            "events[0].properties.c[1]: expected a text, found an integer",
            f"events[0].properties.c[0]: there is no type 'datetime' here; there are {types}",
            "events[0].properties.d.examples: expected an array, found an integer",
        ]

    def test_a_rule_in_our_own_form_with_a_schema_and_more(self) -> None:
        text = "events: [{event: A, description: An A., schema: {}}]"
        (rule,) = parse_plan(text, "plan.yaml").document.rules
        assert rule.description == "An A."
        assert mistakes("events: [{event: A, schema: {}, properties: {a: any}, closed: true}]", "plan.yaml") == [
            f"events[0].{name}: has no effect beside `schema`, which is about the whole message"
            for name in ("properties", "closed")
        ]

    def test_a_definition_that_is_missing(self) -> None:
        text = (FIXTURES / "rudder-v1.yaml").read_text().replace("id: city", "id: town")
        assert mistakes(text, "plan.yaml")[0] == (
            "spec.rules[0].properties[2].properties[0].property: no file defines '#property:city'"
        )

    @pytest.mark.parametrize("text", ["{}", "[]x", "1", '{"kind": "x"}', ""])
    def test_something_else(self, text: str) -> None:
        assert mistakes(text)

    def test_old_lists_of_traits(self) -> None:
        rules = {"rules": {"events": [], "identify_traits": [{"name": "email"}]}}
        assert mistakes(json.dumps(rules)) == [
            "rules.identify_traits: lists of traits are not supported; write a schema as `identify` or `group`"
        ]


def test_yaml_has_the_values_of_json() -> None:
    values = "2026-01-31, yes, true, 1.5, null, 12:30, 007, 1e3, .inf, ="
    text = f"events:\n- event: on\n  properties: {{no: {{enum: [{values}]}}}}"
    (rule,) = parse_plan(text, "plan.yaml").document.rules
    assert (rule.type, rule.key) == (RuleType.TRACK, "on")
    names = rule.schema["properties"]["properties"]["properties"]
    assert names == {"no": {"enum": ["2026-01-31", "yes", True, 1.5, None, "12:30", "007", 1000.0, ".inf", "="]}}


def test_an_object_in_yaml_that_extends_another_one() -> None:
    text = "- &base {type: string, example: a}\n- {<<: *base, example: b}\n- *base"
    base = {"type": "string", "example": "a"}
    assert parse_text(text, "plan.yaml") == [[base, {**base, "example": "b"}, base]]


def test_mistakes_of_schemas_have_the_name_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "plan.json"
    file.write_text(json.dumps({"rules": [{"type": "COMMON", "jsonSchema": {"type": "text"}}]}))
    with pytest.raises(InvalidPlan) as caught:
        load_plan(file)
    assert caught.value.file == str(file)
    assert [mistake.path for mistake in caught.value.mistakes] == ["rules[0].schema.type"]
    assert isinstance(caught.value.mistakes[0], PlanMistake)


@pytest.mark.parametrize("seed", range(60))
@pytest.mark.parametrize("form", [Form.SEGMENT, Form.YAML, Form.CONFIG])
def test_any_schema_survives(seed: int, form: Form) -> None:
    rng = random.Random(seed)
    rules = tuple(rule(f"Event {number}", {**any_schema(rng, 3), "type": "object"}) for number in range(5))
    document = PlanDocument(name="Any", rules=rules)
    back, notes = converted(document, form)
    assert notes == []
    assert essences(back) == essences(document)


def _damaged(value: Any, rng: random.Random) -> Any:
    """Return a value of which one part is another one."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        name = rng.choice(list(value))
        return {**value, name: _damaged(value[name], rng)}
    if isinstance(value, list) and value and rng.random() < 0.9:
        place = rng.randrange(len(value))
        return [*value[:place], _damaged(value[place], rng), *value[place + 1 :]]
    return rng.choice([None, True, 0, -1.5, "", "string", "#/x", "#/properties/shop/city", [], [1], {}, {"a": 1}])


@pytest.mark.parametrize("name", ["segment.json", "typewriter.json", "config.json", "plan.yaml", "rudder-v1.yaml"])
def test_a_damaged_plan_is_read_or_has_mistakes(name: str) -> None:
    documents = parse_text((FIXTURES / name).read_text(), name)
    rng = random.Random(name)
    for _ in range(30):
        damaged = _damaged(_damaged(documents, rng), rng)
        if not isinstance(damaged, list):
            continue
        try:
            document = parse_plan(yaml.safe_dump_all(damaged), "plan.yaml").document
        except InvalidPlan:
            continue
        for form in Form:
            text, _ = write_plan(document, form)
            parse_plan(text, f"plan{ENDINGS.get(form, '.json')}")

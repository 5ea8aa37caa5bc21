"""The remarks on a plan, and its page."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest
from markdown_it import MarkdownIt
from plan_helpers import ORDER, common, rule
from trackcore_plans import html_page, lint, markdown_page

from trackcore import JSONObject
from trackcore.plans import PlanDocument, Rule


def remarks(*rules: Rule) -> list[tuple[str, str, str]]:
    return [(remark.code, remark.path, remark.sentence) for remark in lint(PlanDocument(rules=rules))]


def of_section(section: JSONObject) -> list[tuple[str, str, str]]:
    return remarks(rule("Order Completed", section))


class TestRemarks:
    """Names, casing, near-duplicates, types without examples, versions without effect, rules that cannot work."""

    def test_a_good_plan_has_none(self) -> None:
        good = {"order_id": {"type": "string", "examples": ["o-1"]}, "gift": {"type": "boolean"}}
        assert of_section({"properties": good, "required": ["order_id"]}) == []

    def test_casing(self) -> None:
        names = ("Order Completed", "Cart Viewed", "Cart Emptied", "cart_left")
        assert remarks(*(rule(name, {}) for name in names)) == [
            ("casing", "", "`cart_left` is not in Title Case, as most names are")
        ]
        properties: JSONObject = {name: {} for name in ("order_id", "unit_price", "currency", "unitCount")}
        assert of_section({"properties": properties}) == [
            ("casing", "properties.unitCount", "`unitCount` is not in snake_case, as most names are")
        ]

    def test_one_word(self) -> None:
        (remark,) = remarks(rule("Completed", {}))
        assert remark[0] == "event_name"

    def test_events_that_are_nearly_the_same(self) -> None:
        found = remarks(rule("Order Completed", {}), rule("Orders Completed", {}), rule("Cart Viewed", {}))
        assert found == [("near_duplicate", "", "`Orders Completed` is nearly the name of `Order Completed`")]

    def test_properties_that_are_nearly_the_same(self) -> None:
        found = remarks(
            rule("Cart Viewed", {"properties": {"Total": {}}}), rule("Cart Left", {"properties": {"total": {}}})
        )
        assert found == [
            ("near_duplicate", "properties.total", '`total` is nearly the name of `Total`, in track "Cart Viewed"')
        ]

    def test_types_without_examples(self) -> None:
        (remark,) = of_section({"properties": {f"p{number}": {"type": "string"} for number in range(7)}})
        listed = ", ".join(f"`properties.p{number}`" for number in range(5))
        assert remark == ("no_example", "", f"without an example: {listed} and 2 more")

    def test_a_wrong_example(self) -> None:
        (remark,) = of_section({"properties": {"x": {"type": "number", "examples": ["1"]}}})
        assert remark == ("example", "properties.x", "the example '1' violates the rule")

    def test_versions(self) -> None:
        old, new = rule("Cart Viewed", {}), rule("Cart Viewed", {"type": "object"}, version=2)
        assert remarks(old, new) == [("version", "", "has no effect: it is the same as the oldest version")]

    def test_a_deprecated_version_that_still_applies(self) -> None:
        old = (
            Rule(type=new.type, key=new.key, schema={}, extra={"deprecatedAt": "2026-01-01T00:00:00.000Z"})
            if (new := rule("Cart Viewed", {"required": ["x"]}, version=2))
            else None
        )
        assert old is not None
        assert remarks(old, new) == [
            ("version", "", "is deprecated, but it applies to every message that names no version")
        ]

    @pytest.mark.parametrize(
        ("section", "path"),
        [
            ({"properties": {"a": {}}, "required": ["b"]}, "properties.b"),
            ({"properties": {"a": {"type": "string", "enum": ["x", 1]}}}, "properties.a"),
        ],
    )
    def test_impossible_rules(self, section: JSONObject, path: str) -> None:
        assert [found[:2] for found in of_section(section)] == [("impossible", path)]

    @pytest.mark.parametrize(
        "section",
        [
            {"properties": {"a": {}}, "required": ["site"]},
            {"properties": {"a": {}}, "required": ["b"], "allOf": [{"properties": {"b": {}}}]},
            {"properties": {"a": {}}, "required": ["b"], "patternProperties": {"^b": {}}},
            {"properties": {"a": {"items": {"properties": {"o": {"properties": {"x": {}}, "required": ["x"]}}}}}},
        ],
    )
    def test_rules_that_a_message_can_follow(self, section: JSONObject) -> None:
        shared = common({"properties": {"properties": {"properties": {"site": {}}}}})
        assert remarks(rule("Order Completed", section), shared) == []

    def test_names_cost_no_time_by_their_capitals(self) -> None:
        (remark,) = of_section({"properties": {name: {} for name in ("aName", "bName", "cName", f"a{'B' * 60}_")}})
        assert remark[:2] == ("casing", f"properties.a{'B' * 60}_")


class TestPages:
    """One Markdown or HTML page; the texts of a plan are never markup."""

    HOSTILE = PlanDocument(
        name="<script>alert(1)</script>",
        rules=(
            rule("A | *b* <i>", {"description": "<b>x</b>", "properties": {"a|`b`": {"examples": ["<img>"]}}}),
            rule("Order Completed", ORDER),
            rule("Open", {}),
        ),
    )

    def test_markdown(self) -> None:
        page = markdown_page(PlanDocument(name="Shop", rules=(rule("Order Completed", ORDER),)))
        assert "| `order_id` | string | yes |  |  |" in page
        assert "| `products[].sku` | string | yes |  |  |" in page
        assert "| `revenue` | number | yes |  | at least 0 |" in page

    def test_markdown_has_no_markup_of_the_plan(self) -> None:
        rendered = MarkdownIt("commonmark").enable("table").render(markdown_page(self.HOSTILE))
        assert not {"script", "i", "b", "img", "em"} & _tags(rendered)
        assert rendered.count("<tr>") == 9

    def test_html_has_no_markup_of_the_plan(self) -> None:
        page = html_page(self.HOSTILE)
        assert not {"script", "i", "b", "img"} & _tags(page)
        assert page.count("<tr>") == 9
        assert "any are allowed" in page

    def test_a_rule_that_allows_nothing(self) -> None:
        closed = PlanDocument(rules=(rule("Signed Out", {"additionalProperties": False}),))
        assert "No properties are allowed." in markdown_page(closed)
        assert "No properties are allowed." in html_page(closed)

    def test_keywords_that_their_draft_does_not_know(self) -> None:
        odd: JSONObject = {"examples": {"a": 1}, "x-seen": {"count": "many", "types": 1}}
        page = markdown_page(PlanDocument(rules=(rule("Signed Out", {"properties": {"x": odd}}),)))
        assert "| `x` | any |  |  |  |" in page


def _tags(html: str) -> set[str]:
    found: set[str] = set()

    class Tags(HTMLParser):
        def handle_starttag(self, tag: str, attrs: object) -> None:
            del attrs
            found.add(tag)

    Tags().feed(html)
    return found

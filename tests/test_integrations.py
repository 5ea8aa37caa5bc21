from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import integrations
from support import DESTINATIONS

from trackcore import (
    Decision,
    DecisionReason,
    Destination,
    JSONObject,
    MessageWarning,
    Resolver,
    WarningCode,
    resolve_destinations,
)

MIXPANEL, KISSMETRICS, GOOGLE = DESTINATIONS
DAY = timedelta(days=1)


MOST_WARNINGS = 5


def expected(flags: JSONObject, name: str) -> tuple[bool, DecisionReason]:
    """Return whether a destination is chosen, by a plain reading of the rules.

    Its own flag decides when it is true, false or an object.  If not, `All` decides when it is true or false.  If not,
    it is chosen.
    """
    own = flags.get(name)
    if own is True or own is False:
        return own, DecisionReason.BY_NAME
    if isinstance(own, dict):
        return True, DecisionReason.BY_OPTIONS
    for_all = flags.get("All")
    if for_all is True or for_all is False:
        return for_all, DecisionReason.BY_ALL
    return True, DecisionReason.BY_DEFAULT


class TestResolve:
    @given(integrations())
    def test_it_agrees_with_the_rule_in_plain_words(self, flags: JSONObject) -> None:
        resolution = resolve_destinations(flags, DESTINATIONS)
        assert [decision.destination for decision in resolution.decisions] == list(DESTINATIONS)
        for decision in resolution.decisions:
            assert (decision.chosen, decision.because) == expected(flags, decision.destination.name)
            own = flags.get(decision.destination.name)
            assert decision.options == (own if isinstance(own, dict) else None)
        assert resolution.selected == tuple(d.destination.name for d in resolution.decisions if d.chosen)

    @given(integrations())
    def test_each_value_that_is_ignored_is_reported_once(self, flags: JSONObject) -> None:
        warnings = resolve_destinations(flags, DESTINATIONS).warnings[:MOST_WARNINGS]
        ignored = [warning.path for warning in warnings if warning.code is WarningCode.INTEGRATION_IGNORED]
        expected_paths = [
            f"integrations.{name}"
            for name, value in flags.items()
            if not isinstance(value, bool) and (name == "All" or not isinstance(value, dict))
        ]
        assert ignored == expected_paths[:MOST_WARNINGS]

    @given(integrations())
    def test_the_object_is_never_changed(self, flags: JSONObject) -> None:
        before = repr(flags)
        resolve_destinations(flags, DESTINATIONS)
        assert repr(flags) == before

    @pytest.mark.parametrize(
        ("value", "chosen"),
        [
            ({"all": False}, False),
            ({"all": False, "warehouseIds": []}, False),
            ({"all": False, "warehouseIds": ["w1"]}, True),
            ({"warehouseIds": ["w1"]}, True),
            ({"all": True}, True),
            ({"all": "false"}, True),
            ({"All": False}, True),
            ({}, True),
        ],
    )
    @pytest.mark.parametrize("for_all", [None, True, False])
    def test_the_object_of_the_warehouses_may_say_no(
        self, value: JSONObject, for_all: bool | None, *, chosen: bool
    ) -> None:
        """Documented: `all`, or the ids of some.  As any object it decides without `All`, and it is not a warning."""
        flags = {"Warehouses": value, **({} if for_all is None else {"All": for_all})}
        resolution = resolve_destinations(flags, [Destination(name="Warehouses")])
        (decision,) = resolution.decisions
        assert (decision.chosen, decision.because) == (chosen, DecisionReason.BY_OPTIONS)
        assert decision.options == (value if chosen else None)
        assert resolution.warnings == ()

    @pytest.mark.parametrize(
        ("value", "is_warned"),
        [
            *[({option: False}, True) for option in ("all", "enabled", "enable", "active", "send", "All")],
            *[({option: True}, True) for option in ("disabled", "disable", "exclude")],
            *[({option: True}, False) for option in ("all", "enabled")],
            *[
                ({"disabled": False}, False),
                ({"enabled": None}, False),
                ({"enabled": 0}, False),
                ({"id": False}, False),
            ],
        ],
    )
    def test_another_object_that_seems_to_say_no_is_a_warning(self, value: JSONObject, *, is_warned: bool) -> None:
        """It selects all the same, since only its destination knows what its options mean."""
        resolution = resolve_destinations({"Mixpanel": value, "Unknown": value, "All": False}, DESTINATIONS)
        assert resolution.selected == ("Mixpanel",)
        found = [(warning.code, warning.path) for warning in resolution.warnings]
        assert found == ([(WarningCode.INTEGRATION_SAYS_NO, "integrations.Mixpanel")] if is_warned else [])

    @pytest.mark.parametrize("nothing", [None, {}])
    def test_without_integrations_all_are_chosen(self, nothing: JSONObject | None) -> None:
        resolution = resolve_destinations(nothing, DESTINATIONS)
        assert resolution.selected == ("Mixpanel", "KISSmetrics", "Google Analytics")
        assert resolution.warnings == ()

    def test_the_example_of_the_api_page(self) -> None:
        flags = {"All": False, "Mixpanel": True, "KISSmetrics": True, "Google Analytics": False}
        resolution = resolve_destinations(flags, [*DESTINATIONS, Destination(name="Other")])
        assert resolution.decisions == (
            Decision(destination=MIXPANEL, chosen=True, because=DecisionReason.BY_NAME),
            Decision(destination=KISSMETRICS, chosen=True, because=DecisionReason.BY_NAME),
            Decision(destination=GOOGLE, chosen=False, because=DecisionReason.BY_NAME),
            Decision(destination=Destination(name="Other"), chosen=False, because=DecisionReason.BY_ALL),
        )

    def test_an_object_enables_and_carries_options(self) -> None:
        resolution = resolve_destinations({"All": False, "Mixpanel": {"ids": [1]}, "KISSmetrics": {}}, DESTINATIONS)
        assert resolution.selected == ("Mixpanel", "KISSmetrics")
        assert [decision.options for decision in resolution.decisions] == [{"ids": [1]}, {}, None]

    @pytest.mark.parametrize("value", [None, 0, 1, "true", "false", [], [True]])
    def test_any_other_value_counts_as_absent_with_a_warning(self, value: Any) -> None:
        resolution = resolve_destinations({"All": False, "Mixpanel": value}, [MIXPANEL])
        assert resolution.decisions == (Decision(destination=MIXPANEL, chosen=False, because=DecisionReason.BY_ALL),)
        assert [(c.code, c.path) for c in resolution.warnings] == [
            (WarningCode.INTEGRATION_IGNORED, "integrations.Mixpanel"),
        ]

    @pytest.mark.parametrize("value", [None, 0, "false", [], {}, {"a": 1}])
    def test_all_is_a_boolean_or_absent(self, value: Any) -> None:
        resolution = resolve_destinations({"All": value}, [MIXPANEL])
        assert resolution.decisions == (Decision(destination=MIXPANEL, chosen=True, because=DecisionReason.BY_DEFAULT),)
        assert [(c.code, c.path) for c in resolution.warnings] == [
            (WarningCode.INTEGRATION_IGNORED, "integrations.All")
        ]

    @pytest.mark.parametrize(
        ("given_name", "known"),
        [("mixpanel", "Mixpanel"), ("Kissmetrics", "KISSmetrics"), ("all", "All"), ("ALL", "All")],
    )
    def test_names_are_case_sensitive_and_the_mistake_is_named(self, given_name: str, known: str) -> None:
        resolution = resolve_destinations({given_name: False}, DESTINATIONS)
        assert len(resolution.selected) == len(DESTINATIONS)
        assert resolution.warnings == (
            MessageWarning(
                code=WarningCode.INTEGRATION_CASE,
                message=f"names are case sensitive; did you mean {known!r}?",
                path=f"integrations.{given_name}",
            ),
        )

    def test_unknown_destinations_are_normal(self) -> None:
        assert resolve_destinations({"Segment.io": True, "Amplitude": {"a": 1}}, DESTINATIONS).warnings == ()


class TestAge:
    @given(
        st.timedeltas(-10 * DAY, 10 * DAY) | st.integers(0, 5).map(DAY.__mul__),
        st.lists(st.none() | st.integers(0, 5), max_size=4),
    )
    def test_the_two_ways_to_ask_agree(self, age: timedelta, days: list[int | None]) -> None:
        destinations = [
            Destination(name=str(index), max_age=None if count is None else count * DAY)
            for index, count in enumerate(days)
        ]
        resolution = resolve_destinations({"1": False}, destinations)
        names = resolution.names_at_age(age)
        assert names == tuple(d.destination.name for d in resolution.at_age(age) if d.chosen)
        assert names == tuple(
            destination.name
            for destination in destinations
            if destination.name != "1" and (destination.max_age is None or age <= destination.max_age)
        )

    def test_an_age_equal_to_the_limit_is_accepted(self) -> None:
        resolution = resolve_destinations({}, [Destination(name="Mixpanel", max_age=DAY), KISSMETRICS])
        assert resolution.names_at_age(DAY) == ("Mixpanel", "KISSmetrics")
        assert [decision.chosen for decision in resolution.at_age(DAY)] == [True, True]
        assert resolution.names_at_age(DAY + timedelta(microseconds=1)) == ("KISSmetrics",)

    def test_age_counts_in_the_milliseconds_that_are_stored(self) -> None:
        resolution = resolve_destinations({}, [Destination(name="Mixpanel", max_age=timedelta(milliseconds=5))])
        assert resolution.names_at_age(timedelta(microseconds=5_000)) == ("Mixpanel",)
        assert resolution.names_at_age(timedelta(microseconds=5_001)) == ()
        assert [decision.chosen for decision in resolution.at_age(timedelta(microseconds=5_001))] == [False]

    def test_the_reason_is_reported(self) -> None:
        picky = Destination(name="Mixpanel", max_age=DAY)
        resolution = resolve_destinations({"Mixpanel": {"a": 1}}, [picky])
        assert resolution.at_age(2 * DAY) == (
            Decision(destination=picky, chosen=False, because=DecisionReason.TOO_OLD, options={"a": 1}),
        )

    def test_what_was_not_chosen_anyway_keeps_its_reason(self) -> None:
        resolution = resolve_destinations({"Mixpanel": False}, [Destination(name="Mixpanel", max_age=DAY)])
        assert [decision.because for decision in resolution.at_age(2 * DAY)] == [DecisionReason.BY_NAME]


def test_warnings_are_bounded() -> None:
    junk = {f"name {number:03}": 5 for number in range(25)}
    warnings = resolve_destinations(junk, DESTINATIONS).warnings
    assert len(warnings) == 6
    assert warnings[0].path == "integrations.name 000"
    assert warnings[-1] == MessageWarning(
        code=WarningCode.INTEGRATION_IGNORED, message="and 20 more like these", path="integrations"
    )
    assert len(resolve_destinations(dict([*junk.items()][:5]), DESTINATIONS).warnings) == 5


def test_a_warning_quotes_no_more_than_it_needs() -> None:
    """It is stored with each message of a batch, so the names in it are cut."""
    (warning,) = resolve_destinations({"x" * 1_000: 5}, DESTINATIONS).warnings
    assert warning.path == "integrations." + "x" * 46 + "…"
    assert len(warning.message) <= 160


def test_options_are_not_the_senders_own_object() -> None:
    options = {"a": {"b": 1}}
    (decision,) = resolve_destinations({"Mixpanel": options}, [Destination(name="Mixpanel")]).decisions
    assert decision.options == options
    assert decision.options is not options


def test_of_two_names_that_differ_by_case_the_first_is_suggested() -> None:
    names = ["mixpaneL", "Mixpanel"]
    (warning,) = resolve_destinations({"MIXPANEL": True}, [Destination(name=name) for name in names]).warnings
    assert "did you mean 'mixpaneL'?" in warning.message


class TestResolver:
    @given(st.lists(integrations(), max_size=8))
    def test_remembering_changes_no_answer(self, objects: list[JSONObject]) -> None:
        resolver = Resolver(DESTINATIONS)
        for flags in [*objects, *objects]:
            assert resolver.resolve(flags) == resolve_destinations(flags, DESTINATIONS)

    def test_nothing_and_an_empty_object_are_the_same(self) -> None:
        resolver = Resolver(DESTINATIONS)
        assert resolver.resolve(None) is resolver.resolve({})

    def test_what_was_resolved_once_is_remembered(self) -> None:
        resolver = Resolver(DESTINATIONS)
        assert resolver.resolve({"All": False}) is resolver.resolve({"All": False})

    def test_any_iterable_of_destinations_will_do(self) -> None:
        assert Resolver(iter(DESTINATIONS)).destinations == DESTINATIONS


class TestOffByDefault:
    """`default = "off"`: only where `integrations` names it, as in Segment's `{All: true, Salesforce: false}`."""

    @pytest.mark.parametrize(
        ("flags", "chosen", "because"),
        [
            ({}, False, DecisionReason.OPT_IN),
            ({"All": True}, False, DecisionReason.OPT_IN),
            ({"All": False}, False, DecisionReason.OPT_IN),
            ({"mixpanel": True}, False, DecisionReason.OPT_IN),
            ({"Mixpanel": "true"}, False, DecisionReason.OPT_IN),
            ({"Mixpanel": True}, True, DecisionReason.BY_NAME),
            ({"All": False, "Mixpanel": True}, True, DecisionReason.BY_NAME),
            ({"All": True, "Mixpanel": False}, False, DecisionReason.BY_NAME),
            ({"Mixpanel": {}}, True, DecisionReason.BY_OPTIONS),
        ],
    )
    def test_only_its_name_selects_it(self, flags: JSONObject, chosen: bool, because: DecisionReason) -> None:
        (decision,) = resolve_destinations(flags, [Destination(name="Mixpanel", default="off")]).decisions
        assert (decision.chosen, decision.because) == (chosen, because)

    def test_the_example_of_the_documentation(self) -> None:
        """`{All: true, Salesforce: false}`: all but Salesforce; of those that are off by default, none."""
        some = [Destination(name=name) for name in ("Mixpanel", "Salesforce")]
        some += [Destination(name="KISSmetrics", default="off")]
        flags = {"All": True, "Salesforce": False}
        found = resolve_destinations(flags, some)
        assert found.selected == ("Mixpanel",)
        assert [decision.because for decision in found.decisions] == [
            DecisionReason.BY_ALL,
            DecisionReason.BY_NAME,
            DecisionReason.OPT_IN,
        ]

    @given(integrations())
    def test_it_only_ever_removes(self, flags: JSONObject) -> None:
        off = [Destination(name=each.name, default="off") for each in DESTINATIONS]
        with_off, without = resolve_destinations(flags, off), resolve_destinations(flags, DESTINATIONS)
        assert set(with_off.selected) <= set(without.selected)
        assert {name for name in without.selected if isinstance(flags.get(name), bool | dict)} == set(with_off.selected)
        assert with_off.warnings == without.warnings

    def test_another_default_makes_no_sense(self) -> None:
        with pytest.raises(ValueError, match="expected 'on' or 'off'"):
            Destination(name="Mixpanel", default="no")


class Warehouse(Destination):
    """A destination of a warehouse kind."""

    is_warehouse = True


class TestWarehouses:
    """Segment: `integrations.Warehouses` is `{"all": true}`, `{"all": false}` or `{"warehouseIds": [...]}`."""

    @pytest.mark.parametrize(
        ("value", "chosen"),
        [
            (True, True),
            (False, False),
            ({"all": True}, True),
            ({"all": False}, False),
            ({}, True),
            ({"warehouseIds": ["Mine"]}, True),
            ({"warehouseIds": ["Other"]}, False),
            ({"all": False, "warehouseIds": ["Mine"]}, True),
            ({"all": True, "warehouseIds": ["Other"]}, True),
        ],
    )
    @pytest.mark.parametrize("for_all", [None, True, False])
    def test_it_decides_for_each_warehouse_without_all(self, value: Any, for_all: bool | None, *, chosen: bool) -> None:
        flags = {"Warehouses": value, **({} if for_all is None else {"All": for_all})}
        (decision,) = resolve_destinations(flags, [Warehouse(name="Mine")]).decisions
        assert (decision.chosen, decision.because) == (chosen, DecisionReason.BY_WAREHOUSES)
        assert decision.options == (value if chosen and isinstance(value, dict) else None)

    def test_the_name_of_a_warehouse_comes_before_it(self) -> None:
        flags = {"Warehouses": {"all": False}, "Mine": True}
        (decision,) = resolve_destinations(flags, [Warehouse(name="Mine")]).decisions
        assert (decision.chosen, decision.because) == (True, DecisionReason.BY_NAME)

    def test_it_does_not_concern_other_destinations(self) -> None:
        (decision,) = resolve_destinations({"Warehouses": False}, [MIXPANEL]).decisions
        assert (decision.chosen, decision.because) == (True, DecisionReason.BY_DEFAULT)

    @pytest.mark.parametrize(("value", "chosen"), [(True, False), ({"warehouseIds": ["Mine"]}, True)])
    def test_one_that_is_off_by_default_is_selected_by_its_name_only(self, value: Any, *, chosen: bool) -> None:
        (decision,) = resolve_destinations({"Warehouses": value}, [Warehouse(name="Mine", default="off")]).decisions
        assert decision.chosen is chosen

    def test_another_case_of_the_name_gets_a_warning(self) -> None:
        warnings = resolve_destinations({"warehouses": False}, [Warehouse(name="Mine")]).warnings
        assert [warning.code for warning in warnings] == [WarningCode.INTEGRATION_CASE]

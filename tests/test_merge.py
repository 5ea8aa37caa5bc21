from __future__ import annotations

import copy
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import batches, contexts, json_objects
from support import json_bytes

from trackcore import Batch, JSONObject, Page, Track, merge_batch, merge_objects
from trackcore.merge import SharedContext, inherited_paths, merge_onto, merge_texts
from trackcore.wire.fast import ABSENT, MessageStruct


def containers(value: Any) -> list[int]:
    """Return the identity of every object and array inside a value, itself included."""
    if isinstance(value, dict):
        return [id(value), *(found for inner in value.values() for found in containers(inner))]
    if isinstance(value, list):
        return [id(value), *(found for inner in value for found in containers(inner))]
    return []


class TestInheritedPaths:
    @pytest.mark.parametrize(
        ("under", "over", "paths"),
        [
            ({"a": 1}, None, ("context",)),
            ({"a": 1, "b": {"c": 1}}, {}, ("context.a", "context.b")),
            ({"a": 1, "b": {"c": 1, "d": 1}}, {"a": 2, "b": {"d": 2}}, ("context.b.c",)),
            ({"a": {"b": 1}}, {"a": None}, ()),
            ({"a": 1}, {"a": {"b": 1}}, ()),
            ({}, {"a": 1}, ()),
        ],
    )
    def test_what_only_the_batch_says_is_named(
        self, under: JSONObject, over: JSONObject | None, paths: tuple[str, ...]
    ) -> None:
        assert inherited_paths("context", under, over) == paths

    def test_the_paths_are_bounded(self) -> None:
        paths = inherited_paths("context", {f"name {number:03}": 1 for number in range(1_000)}, {})
        assert sum(map(len, paths)) <= 1_001
        assert paths[0] == "context.name 000"
        assert paths[-1] == "…"

    @given(contexts(), contexts())
    def test_taking_them_away_leaves_what_the_item_says(self, under: JSONObject, over: JSONObject) -> None:
        merged = merge_objects(under, over)
        for path in inherited_paths("context", under, over):
            inner = merged
            *parents, last = path.split(".")[1:]
            for parent in parents:
                inner = inner[parent]
            del inner[last]
        assert merged == over


class TestLaws:
    @given(json_objects(), json_objects())
    def test_laying_over_gives_the_same_and_changes_neither(self, under: JSONObject, over: JSONObject) -> None:
        before = copy.deepcopy((under, over))
        assert merge_onto(under, over) == merge_objects(under, over)
        assert (under, over) == before

    @given(json_objects())
    def test_identity(self, value: JSONObject) -> None:
        assert merge_objects({}, value) == value
        assert merge_objects(value, {}) == value

    @given(json_objects())
    def test_idempotence(self, value: JSONObject) -> None:
        assert merge_objects(value, value) == value

    @given(contexts(), contexts())
    def test_merging_again_changes_nothing(self, under: JSONObject, over: JSONObject) -> None:
        merged = merge_objects(under, over)
        assert merge_objects(merged, over) == merged
        assert merge_objects(under, merged) == merged

    @given(contexts(), contexts(), contexts())
    def test_associativity_for_contexts_of_consistent_shape(
        self, one: JSONObject, two: JSONObject, three: JSONObject
    ) -> None:
        assert merge_objects(merge_objects(one, two), three) == merge_objects(one, merge_objects(two, three))

    @given(contexts(), st.lists(contexts() | st.none()))
    def test_a_shared_context_does_the_same_for_each_message(
        self, under: JSONObject, items: list[JSONObject | None]
    ) -> None:
        before = copy.deepcopy((under, items))
        messages = [MessageStruct(context=ABSENT if own is None else msgspec.Raw(json_bytes(own))) for own in items]
        inherited = SharedContext(json_bytes(under)).merge_into(messages, items)
        merged = [msgspec.json.decode(message.context) for message in messages]
        assert merged == [merge_objects(under, own or {}) for own in items]
        assert inherited == [inherited_paths("context", under, own) for own in items]
        assert (under, items) == before

    @given(json_objects() | contexts(), json_objects() | contexts())
    def test_merging_texts_does_the_same(self, under: JSONObject, over: JSONObject) -> None:
        merged = merge_texts(json_bytes(under), json_bytes(over))
        assert msgspec.json.decode(merged) == merge_objects(under, over)

    @given(json_objects(), json_objects())
    def test_operands_are_never_changed(self, under: JSONObject, over: JSONObject) -> None:
        before = copy.deepcopy((under, over))
        merge_objects(under, over)
        assert (under, over) == before

    @given(contexts(), contexts())
    def test_the_result_shares_no_container_with_what_lies_under(self, under: JSONObject, over: JSONObject) -> None:
        assert set(containers(under)).isdisjoint(containers(merge_objects(under, over)))

    @given(contexts(), contexts())
    def test_nor_with_what_lies_over(self, under: JSONObject, over: JSONObject) -> None:
        assert set(containers(over)).isdisjoint(containers(merge_objects(under, over)))

    @given(json_objects(), json_objects())
    def test_every_key_of_both_is_there_and_the_upper_one_wins(self, under: JSONObject, over: JSONObject) -> None:
        merged = merge_objects(under, over)
        assert merged.keys() == under.keys() | over.keys()
        for key, value in merged.items():
            if key not in over:
                assert value == under[key]
            elif isinstance(over[key], dict) and isinstance(under.get(key), dict):
                assert value == merge_objects(under[key], over[key])
            else:
                assert value == over[key]


@pytest.mark.parametrize(
    ("under", "over", "merged"),
    [
        ({"a": 1}, {"b": 2}, {"a": 1, "b": 2}),
        ({"a": 1}, {"a": 2}, {"a": 2}),
        ({"a": {"x": 1, "y": 1}}, {"a": {"y": 2, "z": 2}}, {"a": {"x": 1, "y": 2, "z": 2}}),
        ({"a": {"b": {"c": 1}}}, {"a": {"b": {"d": 2}}}, {"a": {"b": {"c": 1, "d": 2}}}),
        ({"a": [1, 2]}, {"a": [3]}, {"a": [3]}),
        ({"a": [{"x": 1}]}, {"a": [{"y": 2}]}, {"a": [{"y": 2}]}),
        ({"a": {"x": 1}}, {"a": None}, {"a": None}),
        ({"a": {"x": 1}}, {"a": {"x": None}}, {"a": {"x": None}}),
        ({"a": {"x": 1}}, {"a": 5}, {"a": 5}),
        ({"a": 5}, {"a": {"x": 1}}, {"a": {"x": 1}}),
        ({"a": {"x": 1}}, {"a": {}}, {"a": {"x": 1}}),
        ({"a": {"x": 1}}, {"a": []}, {"a": []}),
        ({"a": None}, {}, {"a": None}),
    ],
)
def test_merge_objects(under: JSONObject, over: JSONObject, merged: JSONObject) -> None:
    assert merge_objects(under, over) == merged


class TestMergeBatch:
    @given(batches())
    def test_the_batch_is_never_changed(self, batch: Batch) -> None:
        before = copy.deepcopy(batch)
        merge_batch(batch)
        assert batch == before

    @given(contexts(), contexts())
    def test_no_two_messages_share_a_container_of_the_batch(
        self, context: JSONObject, integrations: JSONObject
    ) -> None:
        batch = Batch(
            messages=[Page(user_id="u"), Page(user_id="v", context={"ip": 1}), Page(user_id="w", context={})],
            context=context,
            integrations=integrations,
        )
        shared = containers(batch.context) + containers(batch.integrations)
        for message in merge_batch(batch):
            shared += containers(message.context) + containers(message.integrations)
        assert len(shared) == len(set(shared))

    @given(batches())
    def test_everything_but_context_integrations_and_time_of_sending_is_left_alone(self, batch: Batch) -> None:
        for before, after in zip(batch.messages, merge_batch(batch), strict=True):
            assert type(after) is type(before)
            assert (after.user_id, after.message_id, after.timestamp) == (
                before.user_id,
                before.message_id,
                before.timestamp,
            )
            assert after.extra == before.extra

    def test_a_batch_that_says_nothing_changes_nothing(self) -> None:
        messages = (Page(user_id="u"), Track(user_id="u", event="e", context={"a": 1}, integrations={"All": False}))
        assert merge_batch(Batch(messages=messages)) == messages

    def test_context_and_integrations_are_merged_apart(self) -> None:
        batch = Batch(
            messages=[Page(user_id="u", context={"a": 2}, integrations={"Mixpanel": True})],
            context={"a": 1, "b": 1},
            integrations={"All": False},
        )
        assert merge_batch(batch) == (
            Page(user_id="u", context={"a": 2, "b": 1}, integrations={"All": False, "Mixpanel": True}),
        )

    def test_the_time_of_sending_is_taken_where_a_message_has_none(self) -> None:
        batch = Batch(messages=[Page(user_id="u"), Page(user_id="u", sent_at="own")], sent_at="shared")
        assert [message.sent_at for message in merge_batch(batch)] == ["shared", "own"]

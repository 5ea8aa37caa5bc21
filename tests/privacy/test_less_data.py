"""Addresses and masked fields: what is kept of them, in every place where a message can be stored."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address, ip_network
from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import any_bytes, json_values, odd_wire_messages, wire_messages

from trackcore import Collector, Destination, JSONObject, MemorySink, Origin, Source, WriteKey
from trackcore.errors import InvalidRequest
from trackcore.privacy import FieldMask, IpRule, PrivacyRules, apply_masks, strictest
from trackcore.privacy.fields import PROTECTED
from trackcore.privacy.rules import NOT_KEPT

AT = datetime(2026, 1, 31, 12, tzinfo=UTC)
KEY = b"a key of the tests"
WRITE_KEY = WriteKey("abc123")
ADDRESSES = ["203.0.113.77", "2001:db8:77:77::77", "::ffff:203.0.113.77", "fe80::77%eth0"]
DESTINATIONS = [Destination(name="A"), Destination(name="B", default="off")]


def collector_with(rules: PrivacyRules | None, destinations: Any = ()) -> Collector:
    numbers = count()
    return Collector(
        sources=[Source(name="website", write_keys=["abc123"])],
        destinations=destinations,
        sink=MemorySink(),
        clock=lambda: AT,
        new_message_id=lambda: f"made-{next(numbers)}",  # a duplicate would not be stored
        privacy={} if rules is None else {"website": rules},
    )


def everything(collector: Collector) -> str:
    """Return all that a sink got, and the texts that it may read."""
    sink = collector.sink
    assert isinstance(sink, MemorySink)
    received = [bytes(envelope.received) for envelope in sink.envelopes]
    return repr((sink.envelopes, sink.rejected, sink.quarantined, received))


def written(address: str) -> list[str]:
    """Return the ways in which an address may have been written down."""
    bare = address.partition("%")[0]
    plain = ip_address(bare)
    mapped = getattr(plain, "ipv4_mapped", None)
    return [bare, str(plain), plain.exploded, *([str(mapped)] if mapped else [])]


def send_everywhere(collector: Collector, address: str) -> None:
    """Send an address to each place: of the connection, of the client, in a batch, rejected, refused, unknown."""
    origin = Origin(header_key=WRITE_KEY, client_ip=address, client_side=True)
    own = {"type": "page", "userId": "u1", "context": {"ip": address, "page": {"ip": 1}}}
    bodies = [
        {"batch": [{"type": "page", "userId": "u1", "messageId": "m1"}, {**own, "messageId": "m2"}]},
        {"batch": [{**own, "messageId": "m2"}, {"type": "page", "userId": "u1", "context": {"direct": True}}]},
        {"batch": [{"type": "page", "userId": "u1"}, own, {"type": "page"}], "context": {"ip": address, "a": 1}},
        {"batch": [{"type": "page", "userId": 1.5, "context": {"ip": address}, "timestamp": []}]},
        {"batch": {"0": own}},
    ]
    texts = [json.dumps(body).encode() for body in bodies]
    twice = b'{"batch":[{"type":"page","userId":"u","context":{"ip":"%b","ip":"0.0.0.0"}}]}' % address.encode()
    escaped = b'{"batch":[{"type":"page","context":{"\\u0069p":"%b"}}],"n":"\\ud800"}' % address.encode()
    texts += [twice, escaped, texts[1][:-4], b"[%b]" % texts[1], texts[1].replace(b'"type": "page"', b'"type": 1e999')]
    for text in texts:
        for key in ("abc123", "unknown"):
            try:
                collector.receive(text, origin=Origin(header_key=WriteKey(key), client_ip=address, client_side=True))
            except InvalidRequest:
                continue
    collector.receive(texts[0], origin=origin)


class TestAddresses:
    """`mode` is "keep", "truncate", "drop" or "hash", on the address of the connection and on `context.ip`, applied
    before anything is written: messages, rejected, quarantine, duplicates.
    """

    @pytest.mark.parametrize("address", ADDRESSES)
    @pytest.mark.parametrize("mode", ["truncate", "drop", "hash"])
    def test_no_place_has_the_address(self, mode: str, address: str) -> None:
        collector = collector_with(PrivacyRules(ip=IpRule(mode=mode, key=KEY)))
        send_everywhere(collector, address)
        found = everything(collector)
        assert [form for form in written(address) if form in found] == []

    @pytest.mark.parametrize("address", ADDRESSES)
    def test_the_check_sees_what_it_should(self, address: str) -> None:
        collector = collector_with(None)
        send_everywhere(collector, address)
        assert any(form in everything(collector) for form in written(address))

    @pytest.mark.parametrize(
        ("address", "kept"),
        [
            ("203.0.113.77", "203.0.113.0"),
            ("::ffff:203.0.113.77", "203.0.113.0"),
            ("2001:db8:77:78::79", "2001:db8:77::"),
            ("fe80::77%eth0", "fe80::"),
            ("2002:cb00:714d::1", "2002:cb00:7100::"),  # 6to4: an IPv4 address behind its first 16 bits
            ("203.0.113.77:443", "203.0.113.0"),
            ("ip-" + "0" * 32, None),
            ("unknown", None),
            ("203.0.113.077", None),
        ],
    )
    def test_truncation(self, address: str, kept: str | None) -> None:
        assert IpRule(mode="truncate").apply(address, b"") == kept

    @given(st.ip_addresses(), st.integers(0, 32), st.integers(0, 128))
    def test_what_is_truncated_is_the_network(self, address: Any, ipv4_bits: int, ipv6_bits: int) -> None:
        rule = IpRule(mode="truncate", ipv4_bits=ipv4_bits, ipv6_bits=ipv6_bits)
        kept = rule.apply(str(address), b"")
        assert kept is not None
        assert rule.apply(kept, b"") == kept
        if address.version == 4:
            assert kept == str(ip_network((address, ipv4_bits), strict=False).network_address)

    def test_a_hash_holds_for_its_period_and_its_key(self) -> None:
        rule, other = IpRule(mode="hash", key=KEY), IpRule(mode="hash", key=b"another key")
        salts = [rule.salt_at(AT), rule.salt_at(AT + timedelta(hours=11)), rule.salt_at(AT + timedelta(hours=12))]
        first, same_day, next_day = (rule.apply("::ffff:203.0.113.77", salt) for salt in salts)
        assert first == same_day == rule.apply("203.0.113.77", salts[0])
        assert len({first, next_day, other.apply("203.0.113.77", salts[0])}) == 3
        assert rule.apply(first, salts[2]) == first  # a record that is reprocessed has it already

    def test_a_hash_needs_a_key(self) -> None:
        with pytest.raises(ValueError, match="key"):
            IpRule(mode="hash")

    def test_what_is_stored(self) -> None:
        collector = collector_with(PrivacyRules(ip=IpRule(mode="truncate")))
        messages = [{"type": "page", "userId": "1"}, {"type": "page", "userId": "1", "messageId": "m"}]
        messages[1]["context"] = {"ip": "::ffff:9.8.7.6"}  # type: ignore[assignment]
        body = json.dumps({"batch": messages}).encode()
        collector.receive(body, origin=Origin(header_key=WRITE_KEY, client_ip="1.2.3.4", client_side=True))
        assert isinstance(collector.sink, MemorySink)
        stored = [json.loads(envelope.payload)["context"] for envelope in collector.sink.envelopes]
        assert stored == [{"ip": "1.2.3.0"}, {"ip": "9.8.7.0"}]

    @pytest.mark.parametrize(
        ("context", "kept"),
        [
            ('{"ip":"9.8.7.6","ip":"0.0.0.0"}', '{"ip":"0.0.0.0"}'),
            ('{"ip":"9.8.7.6","a":1,"ip":"9.8.7.6"}', '{"ip":"9.8.7.0","a":1}'),
            ('{"page":{"ip":"9.8.7.6"},"ip":"9.8.7.6"}', '{"page":{"ip":"9.8.7.6"},"ip":"9.8.7.0"}'),
            ('{"a":"ip", "ip" : "9.8.7.6","n":1.50}', '{"a":"ip","ip":"9.8.7.0","n":1.50}'),
            ('{"\\u0069p":"9.8.7.6"}', '{"ip":"9.8.7.0"}'),
            ('{"a":1,"ip":5}', '{"a":1}'),
        ],
    )
    def test_however_it_is_written(self, context: str, kept: str) -> None:
        """The rule is for `context.ip`; another field of the name stays."""
        collector = collector_with(PrivacyRules(ip=IpRule(mode="truncate")))
        body = f'{{"batch":[{{"type":"page","userId":"1","context":{context}}}]}}'.encode()
        collector.receive(body, origin=Origin(header_key=WRITE_KEY))
        assert isinstance(collector.sink, MemorySink)
        assert f'"context":{kept},'.encode() in collector.sink.envelopes[0].payload

    def test_a_value_that_is_no_address_is_dropped(self) -> None:
        collector = collector_with(PrivacyRules(ip=IpRule(mode="truncate")))
        body = b'{"batch":[{"type":"page","userId":"1","context":{"ip":"1.2.3.4, 5.6.7.8"}}],"context":{"a":1}}'
        collector.receive(body, origin=Origin(header_key=WRITE_KEY))
        assert isinstance(collector.sink, MemorySink)
        assert json.loads(collector.sink.envelopes[0].payload)["context"] == {"a": 1}

    @given(st.lists(wire_messages() | odd_wire_messages(), max_size=4), st.sampled_from(["truncate", "drop", "hash"]))
    def test_nothing_else_changes(self, batch: list[Any], mode: str) -> None:
        """The messages, their destinations and the rejections are those without the rule, `context.ip` aside."""
        body = json.dumps({"batch": batch, "writeKey": "abc123"}).encode()
        plain, ruled = collector_with(None), collector_with(PrivacyRules(ip=IpRule(mode=mode, key=KEY)))
        try:
            before = plain.receive(body)
        except InvalidRequest:
            return
        after = ruled.receive(body)
        assert [one.error for one in after.rejections] == [one.error for one in before.rejections]
        for kept, one in zip(after.envelopes, before.envelopes, strict=True):
            assert without_ip(kept.payload) == without_ip(one.payload)
            assert kept.destinations == one.destinations


def without_ip(payload: bytes) -> JSONObject:
    message: JSONObject = json.loads(payload)
    context = {name: value for name, value in (message.pop("context", None) or {}).items() if name != "ip"}
    return message | ({"context": context} if context else {})


FIELDS = ["traits.email", "**.password", "properties.products.*", "context.page.**", "extra"]
MESSAGE = {
    "type": "identify",
    "userId": "u1",
    "traits": {"email": "a@example.com", "password": ["p1", {"x": "p2"}], "name": "Ann", "age": 31},
    "properties": {"products": [{"sku": "s", "price": 1.50}, "loose"]},
    "context": {"page": {"url": "u"}, "consent": {"password": "p3"}},
    "extra": 1,
}


def mask(action: str, *fields: str) -> FieldMask:
    return FieldMask(fields=fields or FIELDS, action=action, key=KEY)


class TestMasks:
    """`fields = ["traits.email", "**.password"]`, `action` is "drop", "hash" or "truncate"."""

    def test_drop(self) -> None:
        assert mask("drop").apply(MESSAGE) == {
            "type": "identify",
            "userId": "u1",
            "traits": {"name": "Ann", "age": 31},
            "properties": {"products": [{}, "loose"]},
            "context": {"page": {}, "consent": {"password": "p3"}},
        }

    def test_truncate(self) -> None:
        found = mask("truncate", "traits.*").apply(MESSAGE)
        assert found["traits"] == {"email": "a", "password": ["p", {"x": "p"}], "name": "A"}

    def test_hash(self) -> None:
        found = mask("hash", "traits.*").apply(MESSAGE)
        assert found["traits"].keys() == MESSAGE["traits"].keys()  # type: ignore[attr-defined]
        assert found["traits"]["email"].startswith("hmac-sha256:")
        assert mask("hash", "traits.*").apply(found) == found

    @pytest.mark.parametrize("field", ["userId", "messageId.x", "integrations", "context.consent.x", "", "traits..x"])
    def test_what_cannot_be_masked(self, field: str) -> None:
        with pytest.raises(ValueError, match=r"path|masked"):
            mask("drop", field)

    def test_a_message_without_the_fields_stays_as_it_is(self) -> None:
        payload = b'{"type":"page","userId":"u1","properties":{"price":1.50}}'
        assert apply_masks([mask("drop")], payload) is payload

    @pytest.mark.parametrize("action", ["drop", "hash", "truncate"])
    @given(message=wire_messages(), extra=json_values(), names=st.data())
    def test_a_mask_adds_nothing(self, action: str, message: JSONObject, extra: Any, names: Any) -> None:
        """Masking never adds a field, a message or a destination."""
        message = {**message, "extra": extra}
        known = sorted({name for path in paths(message) for name in path if name and "." not in name}) or ["x"]
        steps = st.lists(st.sampled_from([*known, "*", "**"]), min_size=1, max_size=4).map(".".join)
        rules = PrivacyRules(masks=[one for one in (usable(action, names.draw(steps)),) if one is not None])
        plain, ruled = collector_with(None, DESTINATIONS), collector_with(rules, DESTINATIONS)
        body = json.dumps({"batch": [message], "writeKey": "abc123"}).encode()
        before, after = plain.receive(body), ruled.receive(body)
        assert len(after.envelopes) == len(before.envelopes)
        for kept, one in zip(after.envelopes, before.envelopes, strict=True):
            stored, sent = json.loads(kept.payload), json.loads(one.payload)
            assert kept.destinations == one.destinations
            resolver = plain.resolver("website")
            again = resolver.resolve(stored.get("integrations"), stored.get("context")).selected
            assert set(again) <= set(resolver.resolve(sent.get("integrations"), sent.get("context")).selected)
            assert paths(stored) <= paths(sent)
            assert {name: stored.get(name) for (name, *rest) in PROTECTED if not rest} == {
                name: sent.get(name) for (name, *rest) in PROTECTED if not rest
            }

    @pytest.mark.parametrize("action", ["drop", "hash"])
    def test_no_place_has_the_value(self, action: str) -> None:
        collector = collector_with(PrivacyRules(masks=[mask(action)]))
        messages = [
            {"type": "track", "userId": "u1", "event": "E", "properties": {"password": "secret-1"}},
            {"type": "track", "properties": {"deep": [{"password": "secret-2"}]}},
        ]
        bodies = [
            json.dumps({"batch": messages, "context": {"password": "secret-3"}, "writeKey": "abc123"}).encode(),
            json.dumps({"batch": messages, "writeKey": "unknown"}).encode(),
            b'{"batch":[{"properties":{"password":"secret-4"}}],"writeKey":"abc123"',
            b'{"batch":1,"properties":{"password":"secret-5","password":"x"},"writeKey":"abc123"}',
        ]
        for body in bodies:
            try:
                collector.receive(body)
            except InvalidRequest:
                continue
        found = everything(collector)
        assert "secret-" not in found
        assert NOT_KEPT.decode() in found

    @given(any_bytes())
    def test_anything_can_be_redacted(self, text: bytes) -> None:
        rules = PrivacyRules(ip=IpRule(mode="truncate"), masks=[mask("drop")])
        once = rules.redact(text, AT)
        assert once in (NOT_KEPT, text) or json.loads(once, parse_float=str) is not None or once == b"null"


class TestStrictest:
    """A request without a source is subject to the strictest rules of all sources."""

    def test_it_keeps_nothing_that_a_source_removes(self) -> None:
        one = PrivacyRules(ip=IpRule(mode="truncate", ipv4_bits=16), masks=[mask("drop")])
        two = PrivacyRules(ip=IpRule(mode="truncate", ipv6_bits=32))
        assert strictest([one, two, PrivacyRules()]).ip == IpRule(mode="truncate", ipv4_bits=16, ipv6_bits=32)
        assert strictest([one, PrivacyRules(ip=IpRule(mode="drop"))]).ip.mode == "drop"
        assert strictest([two, one]).masks == one.masks
        assert strictest([]).keep_all


def usable(action: str, field: str) -> FieldMask | None:
    try:
        return mask(action, field)
    except ValueError:
        return None


def paths(value: Any, path: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    """Return the paths of all fields; arrays have no level of their own."""
    if isinstance(value, list):
        return set().union(*(paths(item, path) for item in value)) if value else set()
    if not isinstance(value, dict):
        return set()
    found = {(*path, name) for name in value}
    return found.union(*(paths(inner, (*path, name)) for name, inner in value.items()))

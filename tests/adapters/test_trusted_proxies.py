"""Proxies that are trusted by their addresses: X-Forwarded-For or Forwarded, walked from the right."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address, ip_network

import pytest
from adapter_helpers import SOURCES
from faces import CLIENT, FACES, AsgiFace, WsgiFace
from fuzz.raw import RawRequest
from hypothesis import given
from hypothesis import strategies as st
from support import RECEIVED_AT, CountingIds
from trackcore_http import Forwarded, Proxies

from trackcore import Collector, MemorySink
from trackcore.text import canonical_address, parse_value

RANGES = ("10.0.0.0/8", "2001:db8::/32")
NEAR = "10.0.0.1"
PROXIES = Proxies(ranges=RANGES)


def client_of(connected: str | None, forwarded: str | None, proxies: Proxies = PROXIES) -> str | None:
    """Return the address of the client by X-Forwarded-For, or by the connection if nothing is believed."""
    headers = {} if forwarded is None else {"x-forwarded-for": forwarded}
    return canonical_address(proxies.report(connected, headers).client or connected)


class TestXForwardedFor:
    @pytest.mark.parametrize(
        ("connected", "forwarded", "expected"),
        [
            ("198.51.100.9", "203.0.113.7", "198.51.100.9"),  # no proxy: any client can write the header
            (NEAR, "203.0.113.7", "203.0.113.7"),
            (NEAR, "6.6.6.6, 203.0.113.7", "203.0.113.7"),  # the left one is of the client's making
            (NEAR, "6.6.6.6, 203.0.113.7, 10.9.9.9", "203.0.113.7"),
            (NEAR, "203.0.113.7,10.9.9.9,10.8.8.8", "203.0.113.7"),
            (NEAR, "10.1.1.1, 10.2.2.2", "10.1.1.1"),  # a client inside the network
            (NEAR, "10.1.1.1, 203.0.113.7, 10.2.2.2", "203.0.113.7"),
            (NEAR, None, NEAR),
            (NEAR, "", NEAR),
            (NEAR, "203.0.113.7, unknown, 10.2.2.2", None),  # whoever is not named is not trusted
            ("::ffff:10.0.0.1", "203.0.113.7", "203.0.113.7"),
            ("2001:db8::1", "[2001:db8::2]:443, 203.0.113.7:55000, [2001:db8::3]:443", "203.0.113.7"),
            ("2001:db8::1", "2001:db9::7", "2001:db9::7"),
            (None, "203.0.113.7", None),
            ("", "203.0.113.7", None),
        ],
    )
    def test_the_first_address_from_the_right_that_is_not_trusted(
        self, connected: str | None, forwarded: str | None, expected: str | None
    ) -> None:
        assert client_of(connected, forwarded) == expected

    @given(st.lists(st.ip_addresses(v=4) | st.sampled_from(["10.1.1.1", "10.2.2.2"]).map(ip_address), min_size=1))
    def test_a_forged_part_on_the_left_changes_nothing(self, chain: list[object]) -> None:
        """Behind the first address that is not trusted, a client may write anything."""
        honest = ["203.0.113.7", *(str(each) for each in chain if each in ip_network("10.0.0.0/8"))]
        for forged in ([], ["6.6.6.6"], ["10.5.5.5"], list(map(str, chain))):
            assert client_of(NEAR, ", ".join([*forged, *honest])) == "203.0.113.7"

    @given(st.text(alphabet='1026.:,[]"; for=unknown', max_size=80), st.text(max_size=20))
    def test_no_text_raises(self, forwarded: str, connected: str) -> None:
        for header in ("X-Forwarded-For", "Forwarded"):
            Proxies(ranges=RANGES, header=header).report(connected, {header.lower(): forwarded})


class TestOtherValues:
    """Scheme, host and prefix are those that the outermost trusted proxy reports."""

    def report(self, connected: str, **headers: str) -> Forwarded:
        return PROXIES.report(connected, {f"x-forwarded-{name}": value for name, value in headers.items()})

    def test_each_proxy_has_appended(self) -> None:
        found = self.report(
            NEAR, **{"for": "6.6.6.6, 203.0.113.7, 10.2.2.2"}, proto="ftp, https, http", host="x, t.example, y"
        )
        assert (found.scheme, found.host) == ("https", "t.example")

    def test_the_last_proxy_has_replaced(self) -> None:
        found = self.report(NEAR, **{"for": "203.0.113.7, 10.2.2.2"}, proto="https", host="t.example", prefix="/in")
        assert (found.scheme, found.host, found.prefix) == ("https", "t.example", "/in")

    def test_nothing_is_believed_of_others(self) -> None:
        found = self.report("198.51.100.9", **{"for": "203.0.113.7"}, proto="https", host="t.example", prefix="/in")
        assert found == Forwarded(client=None, scheme=None, host=None, prefix=None)


class TestForwarded:
    """RFC 7239: `Forwarded: for="[2001:db8:cafe::17]:4711";proto=https;host=t.example`."""

    @pytest.mark.parametrize(
        ("forwarded", "expected"),
        [
            ("for=203.0.113.7", "203.0.113.7"),
            ('For="203.0.113.7:4711"', "203.0.113.7"),
            ('for=6.6.6.6, for="[2001:db9::17]:4711";proto=https, for=10.2.2.2', "2001:db9::17"),
            ("proto=https;for=203.0.113.7;by=10.0.0.1, for=10.2.2.2", "203.0.113.7"),
            ('for="6.6.6.6, for=203.0.113.7', "203.0.113.7"),  # a client cannot swallow what a proxy appends
            ("for=unknown, for=10.2.2.2", None),
            ("for=_hidden", None),
        ],
    )
    def test_the_client(self, forwarded: str, expected: str | None) -> None:
        proxies = Proxies(ranges=RANGES, header="Forwarded")
        found = proxies.report(NEAR, {"forwarded": forwarded, "x-forwarded-for": "6.6.6.6"})
        assert canonical_address(found.client) == expected

    def test_scheme_and_host(self) -> None:
        headers = {"forwarded": 'for=203.0.113.7;proto=HTTPS;host="t.example:8443", for=10.2.2.2;proto=http'}
        found = Proxies(ranges=RANGES, header="Forwarded").report(NEAR, headers)
        assert (found.scheme, found.host) == ("https", "t.example:8443")

    def test_hops_can_be_counted_too(self) -> None:
        headers = {"forwarded": "for=6.6.6.6, for=203.0.113.7, for=10.2.2.2"}
        assert Proxies(hops=2, header="Forwarded").report(NEAR, headers).client == "203.0.113.7"

    def test_only_one_of_both_headers_is_read(self) -> None:
        """A proxy that writes one of them passes on what a client wrote into the other."""
        assert PROXIES.report(NEAR, {"forwarded": "for=6.6.6.6"}).client is None


class TestFaces:
    @pytest.mark.parametrize("make", FACES.values(), ids=FACES)
    @pytest.mark.parametrize(("trusted", "expected"), [([f"{CLIENT}/32"], "198.51.100.7"), (["10.0.0.0/8"], CLIENT)])
    def test_the_stored_address(
        self, make: Callable[..., WsgiFace | AsgiFace], trusted: list[str], expected: str
    ) -> None:
        sink = MemorySink()
        collector = Collector(sources=SOURCES, sink=sink, clock=lambda: RECEIVED_AT, new_message_id=CountingIds())
        face = make(collector, trusted_proxies=trusted)
        headers = (("X-Forwarded-For", "6.6.6.6, 198.51.100.7"),)
        body = b'{"userId":"u","writeKey":"abc123"}'
        face.ask(RawRequest(method="POST", target="/v1/p", headers=headers, body=body))
        face.close()
        (envelope,) = sink.envelopes
        assert parse_value(envelope.payload)["context"]["ip"] == expected

    def test_a_range_that_is_none(self) -> None:
        with pytest.raises(ValueError, match="host bits"):
            Proxies(ranges=["10.0.0.1/8"])
        with pytest.raises(TypeError, match="not one range"):
            Proxies(ranges="10.0.0.0/8")

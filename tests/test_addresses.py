from __future__ import annotations

from ipaddress import IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trackcore.text.addresses import canonical_address

PORTS = st.integers(0, 65_535).map(":{}".format) | st.just("")
ZONES = st.sampled_from(["", "%eth0", "%1", "%en0.5"])


class TestCanonicalAddress:
    """`context.ip` is an address in the form of RFC 5952, however a proxy has written it, or absent."""

    @pytest.mark.parametrize(
        ("text", "address"),
        [
            ("203.0.113.7", "203.0.113.7"),
            (" 203.0.113.7:51008 ", "203.0.113.7"),
            ('"203.0.113.7"', "203.0.113.7"),
            ("2001:DB8:0:0:0:0:0:1", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("[2001:db8::1]:443", "2001:db8::1"),
            ("2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"),
            ("fe80::1%eth0", "fe80::1"),
            ("[fe80::1%25en0]:80", "fe80::1"),
            ("::ffff:203.0.113.7", "203.0.113.7"),
            ("::FFFF:cb00:7107", "203.0.113.7"),
            ("[::ffff:203.0.113.7]:80", "203.0.113.7"),
            ("for=203.0.113.7", "203.0.113.7"),
            ('For="[2001:db8::1]:80";proto=https;by=203.0.113.9', "2001:db8::1"),
            ("proto=https; for=203.0.113.7:1", "203.0.113.7"),
        ],
    )
    def test_forms_that_proxies_write(self, text: str, address: str) -> None:
        assert canonical_address(text) == address

    @pytest.mark.parametrize(
        "text",
        [
            *[None, "", " ", "unknown", "_hidden", "for=unknown", "for=_x", "localhost", "proxy.example:80"],
            *["203.0.113.7/32", "203.0.113.07", "203.0.113", "3405803783", "0x7f.1", "203.0.113.7:", "203.0.113.7:x"],
            *["203.0.113.7, 1.1.1.1", "[203.0.113.7]", "[2001:db8::1", "2001:db8::1]:80", "2001:db8:::1", "::1::"],
            *["\u0662.0.113.7", "203.0.113.7\n.1", "<script>", "1" * 100_000, "%eth0", "[]", ":", "::ffff:999.0.0.1"],
        ],
    )
    def test_anything_else_is_no_address(self, text: str | None) -> None:
        assert canonical_address(text) is None

    @given(
        st.ip_addresses(), PORTS, ZONES, st.booleans(), st.sampled_from(["{}", " {} ", "for={}", 'for="{}";proto=http'])
    )
    def test_dressing_changes_nothing(self, address: object, port: str, zone: str, full: bool, dressing: str) -> None:
        if not isinstance(address, IPv6Address):
            assert canonical_address(dressing.format(f"{address}{port}")) == str(address)
            assert canonical_address(dressing.format(f"[::ffff:{address}]{port}")) == str(address)
            return
        text = (address.exploded if full else str(address)).upper() + zone
        expected = str(address.ipv4_mapped or address)
        assert canonical_address(dressing.format(f"[{text}]{port}")) == expected
        assert canonical_address(dressing.format(text)) == expected

    @given(st.text(max_size=60) | st.text("0123456789abcdef:.[]%", max_size=60))
    def test_any_text_is_a_canonical_address_or_none(self, text: str) -> None:
        found = canonical_address(text)
        assert found is None or found == str(ip_address(found)) == canonical_address(found)

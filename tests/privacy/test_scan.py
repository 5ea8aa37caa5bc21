"""The search for likely personal data: by name, by value, with counts and never a value."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from hypothesis import given
from strategies import json_objects

from trackcore.privacy import PiiScan, kind_of_name, kind_of_value


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("password", "password"),
        ("userPassword", "password"),
        ("pasword", "password"),
        ("credit_card", "credit card"),
        ("creditCardNumber", "credit card"),
        ("SSN", "ssn"),
        ("Email", "email"),
        ("e-mail", "email"),
        ("birth_date", "birthdate"),
        ("zip_code", "zipcode"),
        ("phoneNumber", "phone"),
        ("client_ip", "ip"),
        ("shipping", None),
        ("plan", None),
        ("total", None),
        ("", None),
    ],
)
def test_names(name: str, kind: str | None) -> None:
    """The names of the Privacy Portal, exact or similar (Dice coefficient above 0.7)."""
    assert kind_of_name(name) == kind


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("ann@example.com", "email"),
        ("https://example.com/?mail=ann@example.co.uk&x=1", "email"),
        ("4111 1111 1111 1111", "card"),
        (4111111111111111, "card"),
        ("4111 1111 1111 1112", None),
        ("DE89 3704 0044 0532 0130 00", "iban"),
        ("DE89370400440532013001", None),
        ("203.0.113.9", "ip"),
        ("2001:db8::1", "ip"),
        ("1.2.3", None),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl", "token"),
        ("Bearer abcdefghijklmnop1234", "token"),
        ("Signed Up", None),
        (True, None),
        (1.5, None),
    ],
)
def test_values(value: Any, kind: str | None) -> None:
    """E-mail, a card number that passes Luhn's check, IBAN, IP, token."""
    assert kind_of_value("field", value) == kind


def test_counts_by_path_name_and_value() -> None:
    found = PiiScan()
    message = {
        "type": "identify",
        "userId": "ann@example.com",
        "traits": {"email": "ann@example.com", "cards": [{"number": "4111111111111111"}] * 2, "name": ""},
        "context": {"ip": "203.0.113.9", "library": {"name": "x"}, "os": {"version": "10.0.0.1"}},
    }
    for _ in range(3):
        found.add(message)
    assert found.messages == 3
    assert [attrs.astuple(one) for one in found.findings()] == [
        ("traits.cards.number", "card", "red", "value", 6),
        ("context.ip", "ip", "yellow", "name", 3),
        ("context.ip", "ip", "yellow", "value", 3),
        ("traits.email", "email", "yellow", "name", 3),
        ("traits.email", "email", "yellow", "value", 3),
        ("userId", "email", "yellow", "value", 3),
    ]


@given(json_objects())
def test_any_message_can_be_scanned(message: dict[str, Any]) -> None:
    found = PiiScan()
    found.add(message)
    assert all(one.count > 0 for one in found.findings())

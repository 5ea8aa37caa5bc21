"""The rules of a source about personal data, and their application to what is kept as it was received.

A rejected message or a quarantined body may be anything, even no JSON.  Where it is JSON, the rules are applied to each
message that may be in it, and a text without any of the fields stays as it was received.  Where it is not, whatever is
written like an address is treated as one; and if fields are masked, the text is not kept, since they cannot be found.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import attrs
import msgspec

from trackcore.privacy.fields import FieldMask
from trackcore.privacy.ip import IP_MODES, IpRule, replace_addresses
from trackcore.text.jsontext import encode_json, replace_surrogates
from trackcore.typing import JSONObject

NOT_KEPT = b"(not kept: the source has masked fields, and they cannot be found in what is not JSON)"


def _as_masks(masks: Iterable[FieldMask]) -> tuple[FieldMask, ...]:
    return tuple(masks)


@attrs.frozen(kw_only=True)
class PrivacyRules:
    """The changes to the messages of a source before anything of them is stored."""

    ip: IpRule = attrs.field(factory=IpRule)
    masks: tuple[FieldMask, ...] = attrs.field(default=(), converter=_as_masks)

    @property
    def keep_all(self) -> bool:
        """Whether nothing is changed."""
        return self.ip.keeps_all and not self.masks

    def redact(self, text: bytes, received_at: datetime) -> bytes:
        """Return a body, or a message as it was received, without what the rules remove from it."""
        if self.keep_all or not text:
            return text
        salt = self.ip.salt_at(received_at)
        try:
            return self._redacted(text, salt)
        except (msgspec.MsgspecError, UnicodeError, ValueError, RecursionError):
            return NOT_KEPT if self.masks else replace_addresses(text, lambda found: self.ip.apply(found, salt))

    def _redacted(self, text: bytes, salt: bytes) -> bytes:
        """Redact a JSON text.  Raises an error if it cannot be read."""
        value = _parsed(text)
        redacted = self._of_messages(self._addresses(value, salt))
        return text if redacted == value and not self._may_hide_a_field(text) else encode_json(redacted)

    def _may_hide_a_field(self, text: bytes) -> bool:
        """Return whether a text may have one of the fields twice, of which only the last is seen."""
        has_address = not self.ip.keeps_all and b'"ip"' in text
        return b"\\" in text or has_address or any(mask.may_be_in(text) for mask in self.masks)

    def _addresses(self, value: Any, salt: bytes) -> Any:
        """Apply the rule for addresses to each `context.ip`, wherever it is."""
        if self.ip.keeps_all:
            return value
        if value.__class__ is list:
            return [self._addresses(item, salt) for item in value]
        if value.__class__ is not dict:
            return value
        fields = {name: self._addresses(inner, salt) for name, inner in value.items()}
        context = fields.get("context")
        if context.__class__ is dict and context.get("ip") is not None:
            kept = self.ip.value_of(context["ip"], salt)
            others = {name: inner for name, inner in context.items() if name != "ip"}
            fields["context"] = context | {"ip": kept} if kept is not None else others
        return fields

    def _of_messages(self, value: Any) -> Any:
        """Mask the fields of each message: of the value itself, of its items, and of those of its `batch`."""
        if value.__class__ is list:
            return [self._of_messages(item) for item in value]
        if value.__class__ is not dict or not self.masks:
            return value
        message: JSONObject = value
        for mask in self.masks:
            message = mask.apply(message)
        if "batch" in message:
            message = message | {"batch": self._of_messages(message["batch"])}
        return message


def strictest(rules: Iterable[PrivacyRules]) -> PrivacyRules:
    """Return rules that keep nothing which any of these removes: those for a request whose source is not known."""
    known = list(rules)
    addresses = [rule.ip for rule in known]
    strict = max(addresses, key=lambda ip: IP_MODES.index(ip.mode), default=IpRule())
    ip = attrs.evolve(
        strict,
        ipv4_bits=min((ip.ipv4_bits for ip in addresses if not ip.keeps_all), default=strict.ipv4_bits),
        ipv6_bits=min((ip.ipv6_bits for ip in addresses if not ip.keeps_all), default=strict.ipv6_bits),
    )
    return PrivacyRules(ip=ip, masks=dict.fromkeys(mask for rule in known for mask in rule.masks))


def _parsed(text: bytes) -> Any:
    """Return the value of a JSON text, with the digits of numbers as they are.  Raises an error if it has none."""
    try:
        return _digits_kept.decode(text)
    except (msgspec.MsgspecError, UnicodeError):
        return _digits_kept.decode(replace_surrogates(text))


_digits_kept = msgspec.json.Decoder(float_hook=msgspec.Raw)

"""Consent: whether the preferences of a user allow a destination, in the two dialects that SDKs send.

Theory.  A destination names the categories that it needs consent to.  Segment's `context.consent.categoryPreferences`
maps categories to booleans: what is not true there is refused.  RudderStack's `context.consentManagement` lists ids
that are allowed and denied: only what is denied is refused.  A message that states neither is of unknown consent, and
the destination decides.  If both are stated, both must allow it.  So consent only ever removes destinations.

Sources: https://segment.com/docs/privacy/consent-management/consent-in-segment-connections/ and
https://www.rudderstack.com/docs/data-governance/consent-management/
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import attrs

from trackcore.errors import InvalidMessage, Reason
from trackcore.merge import merge_onto
from trackcore.text.jsontext import any_value, encode_json, kind_of
from trackcore.typing import JSONObject

UPDATED = "Segment Consent Preference Updated"
"""The event that announces new preferences.  Its message must state them."""

ALLOW = "allow"
DENY = "deny"

_PARTS = ("consent", "consentManagement")
_PREFERENCES = "context.consent.categoryPreferences"


def _as_categories(categories: Iterable[str]) -> tuple[str, ...]:
    if isinstance(categories, str):  # an iterable of text as well: each of its letters would be a category
        raise TypeError("categories is a list of categories, not one category")
    return tuple(categories)


def _check_categories(_: object, __: object, categories: tuple[str, ...]) -> None:
    if not categories:
        raise ValueError("expected at least one category")
    if not all(isinstance(category, str) and category for category in categories):
        raise ValueError("a category is a string that is not empty")
    if len(set(categories)) < len(categories):
        raise ValueError("a category is named twice")


def _check_unknown(_: object, __: object, unknown: str) -> None:
    if unknown not in (ALLOW, DENY):
        raise ValueError(f"expected {ALLOW!r} or {DENY!r}")


@attrs.frozen(kw_only=True)
class ConsentRule:
    """The consent that a destination needs: to all of its categories, or to one of them if `any_suffices`.

    `unknown` is whether a message without consent is allowed: "allow" as Segment and RudderStack do, or "deny".  With
    "deny" a category that RudderStack's lists do not mention is denied too.  Raises `ValueError` for a rule without
    categories.
    """

    categories: tuple[str, ...] = attrs.field(converter=_as_categories, validator=_check_categories)
    any_suffices: bool = False
    unknown: str = attrs.field(default=ALLOW, validator=_check_unknown)


@attrs.frozen(kw_only=True)
class Refusal:
    """Why consent removes a destination: the wire path that decided, and the categories without consent.

    `is_unknown` is set if the message states no consent.
    """

    path: str
    categories: tuple[str, ...]
    is_unknown: bool = False


@attrs.frozen(kw_only=True)
class Consent:
    """The consent that one message states.  Each dialect is None if the message does not use it."""

    preferences: Mapping[str, Any] | None
    ids: ConsentIds | None

    def refusal(self, rule: ConsentRule) -> Refusal | None:
        """Return why a destination with this rule does not get the message; None if it may."""
        if self.preferences is None and self.ids is None:
            unknown = Refusal(path="context.consent", categories=rule.categories, is_unknown=True)
            return unknown if rule.unknown == DENY else None
        return self._by_preferences(rule) or self._by_ids(rule)

    def _by_preferences(self, rule: ConsentRule) -> Refusal | None:
        preferences = self.preferences
        if preferences is None:
            return None
        refused = [category for category in rule.categories if preferences.get(category) is not True]
        return _refusal(_PREFERENCES, rule, refused, any_suffices=rule.any_suffices)

    def _by_ids(self, rule: ConsentRule) -> Refusal | None:
        ids = self.ids
        if ids is None:
            return None
        must_be_allowed = rule.unknown == DENY
        refused = [
            category
            for category in rule.categories
            if category in ids.denied or (must_be_allowed and category not in ids.allowed)
        ]
        any_suffices = rule.any_suffices if ids.any_suffices is None else ids.any_suffices
        return _refusal("context.consentManagement", rule, refused, any_suffices=any_suffices)


@attrs.frozen(kw_only=True)
class ConsentIds:
    """RudderStack's lists.  `any_suffices` is the strategy of the message; None if the rule of a destination counts."""

    allowed: frozenset[str]
    denied: frozenset[str]
    any_suffices: bool | None


def consent_in(context: JSONObject | None) -> JSONObject:
    """Return the fields of a context that state consent: all that a decision about destinations needs of it."""
    return {name: context[name] for name in _PARTS if name in context} if context else {}


def consent_texts(shared: JSONObject | None, contexts: Iterable[JSONObject | None]) -> list[bytes]:
    """Return the consent in each context merged onto the `shared` one, as text by which results are cached.

    It is empty if none is stated: null is as good as absent after merging.  The frequent case, Segment's `consent`
    alone, is that object; anything else is an array of both dialects.  (To write the name too takes twice as long.)
    """
    base = consent_in(shared)
    merged = [merge_onto(base, consent_in(context)) for context in contexts] if base else contexts
    texts = []
    for context in merged:
        consent = context.get("consent") if context else None
        management = context.get("consentManagement") if context else None
        if management is None and consent.__class__ is dict:
            texts.append(encode_json(consent))
        else:
            texts.append(b"" if consent is None and management is None else encode_json([consent, management]))
    return texts


def context_of(text: bytes) -> JSONObject | None:
    """Return a context with the consent of one of the `consent_texts`."""
    if not text:
        return None
    value = any_value.decode(text)
    return {"consent": value} if value.__class__ is dict else dict(zip(_PARTS, value, strict=True))


def read_consent(context: JSONObject | None, *, beside_integrations: bool) -> Consent:
    """Read the consent that a message states.  Never raises: what cannot be read grants nothing.

    `beside_integrations` is whether the message has `integrations`: beside them an empty `consent` refuses every
    category, and without them it is as good as none, as Segment documents.
    """
    stated = context or {}
    preferences = _preferences(stated.get("consent"), beside_integrations=beside_integrations)
    return Consent(preferences=preferences, ids=_ids(stated.get("consentManagement")))


class _MayAnnounce(Protocol):
    """A message that may announce preferences."""

    type: Any
    event: str | None


def wrong_updates(
    shared: JSONObject | None, messages: Iterable[_MayAnnounce], contexts: Sequence[JSONObject | None]
) -> Iterator[tuple[int, InvalidMessage]]:
    """Yield the place and the error of each message of the event `UPDATED` that does not state its preferences.

    Its context, merged onto the `shared` one of its batch, must have them.
    """
    for row, message in enumerate(messages):
        if message.event == UPDATED and message.type == "track":
            try:
                check_update(merge_onto(shared or {}, contexts[row] or {}))
            except InvalidMessage as error:
                yield row, error


def check_update(context: JSONObject) -> None:
    """Check what a message of the event `UPDATED` must have in its context.  Raises `InvalidMessage`.

    Source: the codes that https://segment.com/docs/connections/delivery-overview/#discarded-events lists for it.
    """
    consent = _object(context.get("consent"))
    preferences = consent.get("categoryPreferences")
    if preferences is None:
        detail = f"a {UPDATED!r} message needs {_PREFERENCES}"
        raise InvalidMessage(reason=Reason.CONSENT_CATEGORYPREFERENCES_SHOULD_EXIST, detail=detail, path=_PREFERENCES)
    if preferences.__class__ is not dict and preferences != []:
        detail = f"the preferences are an object, not {kind_of(preferences)}"
        raise InvalidMessage(
            reason=Reason.CONSENT_CATEGORYPREFERENCES_FIELDS_SHOULD_BE_OBJECT, detail=detail, path=_PREFERENCES
        )
    for category, granted in _object(preferences).items():
        if granted.__class__ is not bool:
            detail = f"the preference {category[:_SHOWN]!r} is true or false, not {kind_of(granted)}"
            raise InvalidMessage(
                reason=Reason.CONSENT_CATEGORYPREFERENCES_FIELDS_SHOULD_BE_BOOL, detail=detail, path=_PREFERENCES
            )
    version = consent.get("version")
    if version is not None and version.__class__ not in (int, float):
        detail = f"the version is a number, not {kind_of(version)}"
        raise InvalidMessage(
            reason=Reason.CONSENT_VERSION_SHOULD_BE_NUMBER, detail=detail, path="context.consent.version"
        )
    advertising_id = _object(context.get("device")).get("advertisingId")
    if advertising_id is not None and advertising_id.__class__ is not str:
        detail = f"the advertisingId is a string, not {kind_of(advertising_id)}"
        raise InvalidMessage(
            reason=Reason.DEVICE_ADVERTISINGID_SHOULD_BE_STRING, detail=detail, path="context.device.advertisingId"
        )


_SHOWN = 40


def _refusal(path: str, rule: ConsentRule, refused: list[str], *, any_suffices: bool) -> Refusal | None:
    is_refused = len(refused) == len(rule.categories) if any_suffices else bool(refused)
    return Refusal(path=path, categories=tuple(refused)) if is_refused else None


def _preferences(consent: Any, *, beside_integrations: bool) -> Mapping[str, Any] | None:
    if consent.__class__ is not dict and consent != []:
        return None
    preferences = _object(consent).get("categoryPreferences")
    if preferences is None:
        return {} if beside_integrations else None
    return _object(preferences)


def _ids(management: Any) -> ConsentIds | None:
    stated = _object(management)
    allowed, denied = _texts(stated.get("allowedConsentIds")), _texts(stated.get("deniedConsentIds"))
    if not allowed and not denied:
        return None
    # RudderStack takes the strategy of its destination for the provider `custom`, and that of the consent manager's
    # SDK for any other one.
    strategy = None if stated.get("provider") == "custom" else stated.get("resolutionStrategy")
    any_suffices = {"or": True, "and": False}.get(strategy) if isinstance(strategy, str) else None
    return ConsentIds(allowed=allowed, denied=denied, any_suffices=any_suffices)


def _texts(values: Any) -> frozenset[str]:
    return (
        frozenset(value for value in values if isinstance(value, str) and value) if isinstance(values, list) else _NONE
    )


def _object(value: Any) -> JSONObject:
    return value if value.__class__ is dict else {}


_NONE: frozenset[str] = frozenset()

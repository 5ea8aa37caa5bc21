"""The shape of a catalog entry: the meaning of a code, the clients that cause it, and the remedy."""

from __future__ import annotations

from enum import StrEnum

import attrs

from trackcore.limits import DEFAULT_LIMITS, Limits
from trackcore.typing import JSONObject

_API = "https://segment.com/docs/connections/sources/catalog/libraries/server/http-api/"
_SPEC = "https://segment.com/docs/connections/spec/"


class Docs(StrEnum):
    """Pages of the documentation that entries link to."""

    ALIAS = f"{_SPEC}alias/"
    AUTHENTICATION = f"{_API}#authentication"
    BATCH = f"{_API}#batch"
    CONSENT = (
        "https://segment.com/docs/privacy/consent-management/consent-in-unify/#segment-consent-preference-updated-event"
    )
    CONTEXT = f"{_SPEC}common/#context"
    ERRORS = f"{_API}#errors"
    GROUP = f"{_SPEC}group/"
    IDENTITIES = f"{_SPEC}identify/#identities"
    INTEGRATIONS = f"{_API}#selecting-destinations"
    JSON = "https://www.rfc-editor.org/rfc/rfc8259"
    LIMITS = f"{_API}#max-request-size"
    MESSAGE_ID = "https://segment.com/docs/guides/duplicate-data/"
    PAGE = f"{_SPEC}page/"
    PLANS = "https://segment.com/docs/protocols/enforce/schema-configuration/"
    TIMESTAMPS = f"{_SPEC}common/#timestamps"
    TRACK = f"{_SPEC}track/"


@attrs.frozen(kw_only=True)
class CatalogEntry:
    """The text about one code.

    `title` is one sentence, by default that of the code; `meaning`, `senders` (the clients that cause it) and `remedy`
    are a paragraph each; `allowed` names the correct values, with the names of limits in braces; `link` is the
    documentation.
    """

    code: str
    title: str = attrs.field(default=attrs.Factory(lambda entry: entry.code.sentence, takes_self=True))
    meaning: str
    senders: str
    remedy: str
    link: Docs
    allowed: str = ""

    def allowed_within(self, limits: Limits) -> str:
        """Return the correct values, with the limits in force."""
        return self.allowed.format_map(attrs.asdict(limits))

    def as_json(self, limits: Limits = DEFAULT_LIMITS) -> JSONObject:
        """Return the entry as a JSON object."""
        allowed = {"allowed": self.allowed_within(limits) or None}
        return {name: value for name, value in (attrs.asdict(self) | allowed).items() if value is not None}

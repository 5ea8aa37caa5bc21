"""Requests about persons over HTTP, in the shapes of Segment's Public API: regulations and suppressions.

Source: https://docs.segmentapis.com/tag/Deletion-and-Suppression
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import attrs
import msgspec
from trackcore_privacy import Job
from werkzeug.wrappers import Request, Response

from trackcore import JSONObject, TrackcoreError, format_timestamp
from trackcore.privacy import Subject, SubjectKind
from trackcore.text import encode_json
from trackcore_server.config.configuration import Configuration
from trackcore_server.privacy.jobs import BYTES, ENDED, Jobs

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

REGULATIONS = "/regulations"
SUPPRESSIONS = "/suppressions"
MOST_IDS = 5_000
_MOST_BYTES = 4 << 20
_PAGE = 100
_MOST_PAGE = 200

TYPES = ("SUPPRESS_ONLY", "UNSUPPRESS", "SUPPRESS_WITH_DELETE", "DELETE_ONLY")
ALIASES = {"DELETE_INTERNAL": "DELETE_ONLY", "SUPPRESS_WITH_DELETE_INTERNAL": "SUPPRESS_WITH_DELETE"}
"""Types of Segment that leave destinations out.  Here the request is passed on to them as well."""

KINDS: Mapping[str, SubjectKind] = {"USER_ID": "user", "ANONYMOUS_ID": "anonymous"}
_NAMES = {kind: name for name, kind in KINDS.items()}


class _Body(msgspec.Struct, rename="camel"):
    regulation_type: str
    subject_type: str
    subject_ids: list[str]


_body = msgspec.json.Decoder(_Body)


@attrs.frozen
class _Refused(Exception):
    status: HTTPStatus
    code: str
    message: str


class RegulationsApp:
    """The WSGI app for both paths.  It needs the token, as `Authorization: Bearer TOKEN`."""

    def __init__(self, configuration: Configuration, token: str) -> None:
        self._jobs = Jobs(configuration)
        self._sources = {source.name for source in configuration.sources}
        self._token = token.encode()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        request = Request(environ)
        try:
            response = _json({"data": self._answer(request)})
        except _Refused as refused:
            response = _failure(refused.status, refused.code, refused.message)
        except TrackcoreError:
            response = _failure(HTTPStatus.SERVICE_UNAVAILABLE, "unavailable", "the requests cannot be stored now")
        response.headers["Cache-Control"] = "no-store"
        return response(environ, start_response)

    def _answer(self, request: Request) -> JSONObject:
        self._check_token(request)
        path = f"{request.root_path}{request.path}".rstrip("/")
        if path.endswith(SUPPRESSIONS):
            _allow(request, "GET")
            return self._suppressed(request)
        _, _, rest = path.partition(REGULATIONS)
        match rest.split("/")[1:]:
            case []:
                return self._collection(request, "")
            case ["sources", name]:
                if name not in self._sources:
                    raise _NOT_FOUND
                return self._collection(request, name)
            case [number]:
                _allow(request, "GET")
                job = self._jobs.file.job(number)
                if job is None:
                    raise _NOT_FOUND
                return {"regulation": _shown(job)}
        raise _NOT_FOUND

    def _check_token(self, request: Request) -> None:
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        is_right = hmac.compare_digest(given.strip().encode("utf-8", "replace"), self._token)
        if scheme.lower() != "bearer" or not is_right:
            raise _Refused(HTTPStatus.UNAUTHORIZED, "unauthorized", "the admin token is missing or wrong")

    def _collection(self, request: Request, scope: str) -> JSONObject:
        _allow(request, "GET", "POST")
        if request.method == "GET":
            return self._listed(request, scope)
        body = _read(request)
        type_ = ALIASES.get(body.regulation_type, body.regulation_type)
        subjects = [Subject(KINDS[body.subject_type], one) for one in dict.fromkeys(body.subject_ids)]
        return {"regulateId": self._jobs.add(type_, subjects, scope=scope)}

    def _listed(self, request: Request, scope: str) -> JSONObject:
        jobs = self._jobs.file.jobs()[::-1]
        if scope:
            jobs = [job for job in jobs if job.scope == scope]
        types = request.args.getlist("regulationTypes")
        status = request.args.get("status")
        found = [job for job in jobs if not types or job.regulation in types]
        shown = [_shown(job) for job in found]
        page, pagination = _page(request, [one for one in shown if status in (None, one["overallStatus"])])
        return {"regulations": page, "pagination": pagination}

    def _suppressed(self, request: Request) -> JSONObject:
        page, pagination = _page(request, self._jobs.file.listed())
        by_kind: dict[str, list[str]] = {}
        for entry in page:
            name = entry.name if entry.subject is None else entry.subject.id
            by_kind.setdefault(_NAMES[entry.kind], []).append(name)
        listed = [{"subjectType": kind, "subjectIds": names} for kind, names in by_kind.items()]
        return {"suppressed": listed, "pagination": pagination}


_NOT_FOUND = _Refused(HTTPStatus.NOT_FOUND, "not_found", "there is no such regulation or source")


def _read(request: Request) -> _Body:
    text = request.stream.read(_MOST_BYTES + 1)
    try:
        body = _body.decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise _bad("bad_body", "expected JSON with regulationType, subjectType and subjectIds") from None
    if body.regulation_type not in (*TYPES, *ALIASES):
        raise _bad("bad_regulation_type", f"regulationType is one of {', '.join((*TYPES, *ALIASES))}")
    if body.subject_type not in KINDS:
        raise _bad("bad_subject_type", f"subjectType is one of {', '.join(KINDS)}")
    if not 0 < len(body.subject_ids) <= MOST_IDS or not all(body.subject_ids):
        raise _bad("bad_subject_ids", f"subjectIds has 1 to {MOST_IDS} ids, none of them empty")
    return body


def _bad(code: str, message: str) -> _Refused:
    return _Refused(HTTPStatus.BAD_REQUEST, code, message)


def _allow(request: Request, *methods: str) -> None:
    if request.method not in methods:
        raise _Refused(HTTPStatus.METHOD_NOT_ALLOWED, "method_not_allowed", f"the method is {' or '.join(methods)}")


def _page(request: Request, entries: Sequence[Any]) -> tuple[Sequence[Any], JSONObject]:
    """Return the page of `pagination[count]` entries behind the cursor `pagination[cursor]`."""
    count, cursor = request.args.get("pagination[count]", str(_PAGE)), request.args.get("pagination[cursor]", "0")
    if not (count.isdecimal() and cursor.isdecimal()) or not 0 < int(count) <= _MOST_PAGE:
        raise _bad("bad_pagination", f"pagination[count] is 1 to {_MOST_PAGE}, and pagination[cursor] one from a page")
    start, size = int(cursor), int(count)
    pagination: JSONObject = {"current": cursor, "totalEntries": len(entries)}
    if start + size < len(entries):
        pagination["next"] = str(start + size)
    return entries[start : start + size], pagination


def _shown(job: Job) -> JSONObject:
    stores = [step for step in job.steps if step.store != BYTES]
    shown = [
        {
            "name": step.store,
            "id": step.store,
            "status": step.status,
            "errString": step.detail if step.status not in ENDED else "",
            **({} if step.finished_at is None else {"finishedAt": format_timestamp(step.finished_at)}),
        }
        for step in stores
    ]
    finished = {} if job.finished_at is None else {"finishedAt": format_timestamp(job.finished_at)}
    return {
        "id": job.id,
        "workspaceId": "trackcore",
        "overallStatus": _overall(job),
        "createdAt": format_timestamp(job.created_at),
        **finished,
        "streamStatus": [{"id": job.scope or "all sources", "destinationStatus": shown}] if shown else [],
    }


def _overall(job: Job) -> str:
    if job.finished_at is not None:
        return "FINISHED"
    statuses = {step.status for step in job.steps}
    if "FAILED" in statuses:
        return "PARTIAL_SUCCESS" if statuses & ENDED else "FAILED"
    return "INITIALIZED" if statuses == {"INITIALIZED"} else "RUNNING"


def _json(value: JSONObject, status: HTTPStatus = HTTPStatus.OK) -> Response:
    return Response(encode_json(value), status, content_type="application/json")


def _failure(status: HTTPStatus, code: str, message: str) -> Response:
    body = {"success": False, "code": code, "message": message, "errors": [{"type": code, "message": message}]}
    response = _json(body, status)
    if status is HTTPStatus.UNAUTHORIZED:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response

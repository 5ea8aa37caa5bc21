"""The floor for HTTP: a Werkzeug app that only reads the body and sends the response of trackcore."""

from __future__ import annotations

from werkzeug.wrappers import Request, Response


@Request.application
def app(request: Request) -> Response:
    """Read the body and answer."""
    request.get_data()
    return Response(b'{"success": true}', content_type="application/json")

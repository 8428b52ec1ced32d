"""Who may talk to the page: checks of each request before anything else sees it."""

import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import cookie_parser
from starlette.responses import PlainTextResponse, RedirectResponse, Response

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

#: Path to which pictures are uploaded.
UPLOADS = "/api/uploads"
#: Largest bodies in bytes: of an upload, and of any other request.
MOST_UPLOADED, _MOST_ASKED = 32 * 2**20, 64 * 2**10
_POLICY = (
    "default-src 'self'; img-src 'self' blob:; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'self'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Guard:
    """Lets requests through to an ASGI application if they come from the page of this server, opened with its token.

    - The header Host is one of the names of this server, so that no other name leads here (DNS rebinding).
    - Origin, if it is sent, is this server, and so is Sec-Fetch-Site, which browsers send with pictures as well.
    - The token comes in the address that the command prints; it then moves to a cookie of this server that scripts
      cannot read.
    - Bodies have a limited size, whatever their header says.

    Args:
        app: the application.
        token: the secret.
        hosts: values of Host that are accepted, such as "127.0.0.1:8188".
        cookie: name of the cookie.
    """

    def __init__(self, app: App, token: str, hosts: frozenset[str], cookie: str) -> None:
        self._app, self._token, self._hosts, self._cookie = app, token, hosts, cookie

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        if scope["type"] == "lifespan":
            return await self._app(scope, receive, send)
        if scope["type"] != "http":
            return None  # the page has no web sockets
        headers = Headers(scope=scope)
        most = MOST_UPLOADED if scope["path"] == UPLOADS else _MOST_ASKED
        refusal = self._refusal(scope, headers, most)
        guarded = _with_headers(send)
        if refusal is not None:
            await refusal(scope, receive, guarded)
            return None
        await self._app(scope, _limited(receive, most), guarded)
        return None

    def _refusal(self, scope: Message, headers: Headers, most: int) -> Response | None:
        """Return the answer to a request that is not passed on; None if it is."""
        host = headers.get("host", "").lower()
        if host not in self._hosts or len(headers.getlist("host")) != 1:
            return PlainTextResponse("This server has another name.", 421)
        origin, site = headers.get("origin"), headers.get("sec-fetch-site", "none")
        given = dict(parse_qsl(scope["query_string"].decode("latin-1"))).get("token")
        opens = scope["path"] == "/" and scope["method"] == "GET" and given is not None
        if origin is not None and (urlsplit(origin).scheme != "http" or urlsplit(origin).netloc.lower() != host):
            return PlainTextResponse("Another page may not ask this.", 403)
        if site not in ("none", "same-origin") and not opens:
            return PlainTextResponse("Another page may not ask this.", 403)
        if opens and self._is_token(given):
            answer = RedirectResponse("/", 303)
            answer.set_cookie(self._cookie, self._token, httponly=True, samesite="strict")
            return answer
        if not self._is_token(cookie_parser(headers.get("cookie", "")).get(self._cookie)):
            return PlainTextResponse("Open the address that `aigc ui` has printed: it has a token.", 403)
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > most:
            return PlainTextResponse("Too large.", 413)
        return None

    def _is_token(self, given: str | None) -> bool:
        return given is not None and secrets.compare_digest(given.encode(), self._token.encode())


def _with_headers(send: Send) -> Send:
    async def guarded(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
        await send(message)

    return guarded


def _limited(receive: Receive, most: int) -> Receive:
    """Return a receiver that counts a body's bytes: a body sent in chunks has no length in its headers."""
    left = most

    async def counted() -> Message:
        nonlocal left
        message = await receive()
        left -= len(message.get("body", b""))
        if left < 0:
            raise HTTPException(413, "Too large.")
        return message

    return counted

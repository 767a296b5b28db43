"""Who may ask: the Host header, a token, and headers that keep the page to itself."""

import hmac
from collections.abc import Collection
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["HERE", "Guard"]

HERE = ("localhost", "127.0.0.1", "[::1]")
OPEN = ("/healthz", "/readyz")  # what a supervisor of containers asks without a token
COOKIE = "streamsketch_token"
HEADERS = {
    # Nothing from elsewhere runs on the page, whatever names a stream's columns have.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Guard:
    """Refuses requests under a foreign name (a web page that had its name point here) or without token.

    The token comes as `Authorization: Bearer TOKEN`; in a browser, open `/?token=TOKEN` once.

    Args:
        app: What answers.
        hosts: Names under which this machine may be asked; all where empty.
        token: What a request must know; None for no token.
    """

    def __init__(
        self, app: ASGIApp, hosts: Collection[str] = HERE, token: str | None = None
    ) -> None:
        self.app, self.hosts, self.token = app, hosts, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def sealed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        refused = self._refused(scope)
        answer = self.app if refused is None else refused
        await answer(scope, receive, sealed)

    def _refused(self, scope: Scope) -> ASGIApp | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        name = host if host.endswith("]") else host.rsplit(":", 1)[0]
        if self.hosts and name.lower() not in self.hosts:
            return JSONResponse(
                {"error": "the Host header names another machine; ask for localhost, or start "
                 "`streamsketch serve` with --host"}, 421
            )  # fmt: skip
        if self.token is None or scope["path"] in OPEN:
            return None
        asked = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        if scope["path"] == "/" and self._right(asked):
            answer = RedirectResponse("/", 303)
            answer.set_cookie(COOKIE, asked, httponly=True, samesite="strict")
            return answer
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self._right(given.strip()):
            return None
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            cookie = None
        if cookie is not None and self._right(cookie.value):
            return None
        return JSONResponse(
            {"error": "a token is required: send Authorization: Bearer TOKEN, or open /?token=TOKEN"},
            401, {"WWW-Authenticate": "Bearer"},
        )  # fmt: skip

    def _right(self, given: str) -> bool:
        return self.token is not None and hmac.compare_digest(given.encode(), self.token.encode())

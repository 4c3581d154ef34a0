"""HTTP with everything: TLS, HTTP/2, authentication, redirects; for modest rates.

A probe costs more than a millisecond of processor time, ten times that of http.py. At 200/s its
schedule lag is below a millisecond, several hundred a second are more than one processor can do,
and while hundreds are in flight (a target that hangs) the lag grows to tens of milliseconds. It is
measured and stored like that of any probe, and probes that share the process feel it too.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Annotated, Any, ClassVar, Literal, Self

import anyio
import httpx
from pydantic import (
    Field,
    FilePath,
    StringConstraints,
    model_validator,
)

from chaosd.history.values import Address, Outcome
from chaosd.plugins.bases import Part, ProbeConfig
from chaosd.plugins.probe import Knock, Shot
from chaosd.probes import outcomes

ANSWER_MAX = 1 << 20  # bytes; what sends more is not the app that we ask
REDIRECTS_MAX = 10
_SENDING = (
    "connection.connect_tcp.started",
    "http11.send_request_headers.started",
    "http2.send_request_headers.started",
)
# What httpx says when the other side closes too early; it has no type of its own.
_CLOSED = ("disconnected", "closed connection", "incomplete", "ConnectionTerminated")


_HeaderName = Annotated[str, StringConstraints(pattern=r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")]
_HeaderValue = Annotated[str, StringConstraints(pattern=r"^[\t -~]*$")]


class _GarbledError(Exception):
    """The answer is whole but can't be used."""


class HttpxProbe:
    """GET through httpx."""

    identifies: ClassVar[bool] = True

    class Auth(Part):
        """HTTP Basic."""

        username: str
        password: str

    class Config(ProbeConfig):
        type: Literal["httpx"] = "httpx"
        path: str = Field(
            "/", pattern=r"^/[!-~]*$", max_length=2000, description="what is asked for"
        )
        scheme: Literal["http", "https"] = "http"
        host: str | None = Field(
            None,
            pattern=r"^[!-~]+$",
            max_length=255,
            description="the Host header, and the name that TLS asks for and checks; "
            "the target's address if not set",
        )
        verify: bool | FilePath = Field(
            True, description="check the certificate; or a file with the CAs to trust"
        )
        http2: bool = Field(False, description="offer HTTP/2 in the TLS handshake")
        follow_redirects: bool = Field(
            False, description="as long as they stay with the same host; else a 3xx answer is good"
        )
        headers: dict[_HeaderName, _HeaderValue] = Field({}, description="more request headers")
        auth: HttpxProbe.Auth | None = Field(None, description="HTTP Basic")
        connection: Literal["new", "keep-alive"] = Field(
            "new", description="a new connection for each probe, or kept ones"
        )

        def knock(self) -> Knock:
            return Knock(host=self.host, path=self.path, tls=self.scheme == "https")

        @model_validator(mode="after")
        def _tls_settings_need_tls(self) -> Self:
            if self.http2 and self.scheme != "https":
                raise ValueError("http2 needs `scheme: https`")
            return self

    def __init__(self, config: Config, identity_header: str) -> None:
        self._config = config
        self._identity_header = identity_header
        self._client = self._make_client()
        # httpx loads what it stands on with its first request, which would then be late.
        anyio.current_time()
        self._asking: dict[Shot, asyncio.Task[None]] = {}

    def fire(self, shot: Shot, target: Address) -> None:
        task = asyncio.get_running_loop().create_task(self._attempt(shot, target))
        self._asking[shot] = task
        task.add_done_callback(lambda task: self._ended(shot, task))

    def abandon(self, shot: Shot) -> None:
        if (task := self._asking.get(shot)) is not None:
            task.cancel()

    async def close(self) -> None:
        for task in self._asking.values():
            task.cancel()
        await asyncio.gather(*self._asking.values(), return_exceptions=True)
        await self._client.aclose()

    def _make_client(self) -> httpx.AsyncClient:
        config = self._config
        verify: ssl.SSLContext | bool = False
        if config.scheme == "https" and config.verify is not False:
            path = None if config.verify is True else str(config.verify)
            verify = ssl.create_default_context(cafile=path)
        kept = None if config.connection == "keep-alive" else 0
        headers = {"user-agent": "chaosd", "accept-encoding": "identity"} | config.headers
        if config.host is not None:
            headers["host"] = config.host
        if config.connection == "new" and not config.http2:
            headers["connection"] = "close"
        # Each probe is a new user: one that brought a cookie would be bound to one server for ever.
        no_cookies = CookieJar(DefaultCookiePolicy(allowed_domains=[]))
        return httpx.AsyncClient(
            cookies=no_cookies,
            headers=headers,
            auth=(config.auth.username, config.auth.password) if config.auth else None,
            verify=verify,
            http2=config.http2,
            trust_env=False,  # no proxy and no credentials from the environment
            # No limit and no clock of its own: the host bounds both.
            timeout=None,  # noqa: S113
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=kept),
        )

    def _ended(self, shot: Shot, task: asyncio.Task[None]) -> None:
        del self._asking[shot]
        if not task.cancelled():
            task.result()  # raises what is not an outcome: a bug

    async def _attempt(self, shot: Shot, target: Address) -> None:
        try:
            response = await self._ask(shot, target)
        except (httpx.HTTPError, httpx.InvalidURL, OSError, _GarbledError) as error:
            shot.done(_outcome(error))
        else:
            outcome = Outcome.HTTP_ERROR if response.is_error else Outcome.OK
            who = response.headers.get(self._identity_header, "")
            shot.done(outcome, response.status_code, who)

    async def _ask(self, shot: Shot, target: Address) -> httpx.Response:
        """The last answer, read to its end. The instant of `sent` is that of the first SYN."""
        here = httpx.URL(f"{self._config.scheme}://{target}{self._config.path}")
        url = here

        async def trace(event: str, _: Any) -> None:
            if event in _SENDING:
                shot.sent()

        extensions: dict[str, Any] = {"trace": trace}
        if self._config.host is not None:
            extensions["sni_hostname"] = self._config.host.rpartition(":")[0] or self._config.host
        for _ in range(1 + REDIRECTS_MAX):
            async with self._client.stream("GET", url, extensions=extensions) as response:
                size = 0
                async for chunk in response.aiter_raw():
                    size += len(chunk)
                    if size > ANSWER_MAX:
                        raise _GarbledError("the answer is too long")
            if not (self._config.follow_redirects and response.has_redirect_location):
                return response
            url = self._next_url(here, response)
        raise _GarbledError("too many redirects")

    def _next_url(self, here: httpx.URL, response: httpx.Response) -> httpx.URL:
        """Where a redirect leads, at the same address: another host would be another target."""
        there = response.url.join(response.headers["location"])
        names = {here.netloc.decode(), self._config.host or here.host}
        if there.scheme != here.scheme or there.netloc.decode() not in names:
            raise _GarbledError("the redirect leads elsewhere")
        return here.copy_with(raw_path=there.raw_path)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _outcome(error: Exception) -> Outcome:
    """The one place where exceptions become outcomes."""
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLError):
            return Outcome.TLS
        if isinstance(cause, OSError) and cause.errno:
            return outcomes.of_error(cause)
    if isinstance(error, _GarbledError | httpx.InvalidURL | httpx.DecodingError):
        return Outcome.GARBLED
    if isinstance(error, httpx.RemoteProtocolError):
        closed = any(words in str(error) for words in _CLOSED)
        return Outcome.RESET if closed else Outcome.GARBLED
    return Outcome.RESET

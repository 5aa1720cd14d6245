"""JSON over HTTP to one model server, with an end to every wait.

Made on the standard library's `http.client`: what a decision needs beyond it is small, and the usual client libraries
do not have it. A request waits for its answer in steps, so that `Limit.stop`, set by another thread, ends it within a
quarter of a second, and no wait is longer than what is left of the decision, whatever the server does: refuse, stall,
trickle, or ask to come again in an hour. Proxies of the environment are not used: a ranker's server is close by.

Busy servers (429, 5xx) and lost connections are tried again after a pause that doubles, with jitter, or after what
`Retry-After` asks for if that fits into the time left. Every request here may be repeated: none changes anything.

The API key is sent as a bearer token, to this address only (redirects are not followed), and is blotted out of every
error text, for servers like to quote it.
"""

from __future__ import annotations

import contextlib
import email.utils
import http.client
import json
import random
import selectors
import ssl
import threading
import time
from typing import Any

from ncode_search.agent.errors import NcodeError
from ncode_search.agent.ranking.address import Address

RETRIED = (408, 425, 429, 500, 502, 503, 504)
"""Statuses that may be gone a moment later."""
TRIES = 4
"""How often a request is sent, at most."""
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 8.0
"""Seconds between tries; `Retry-After` may ask for more."""
CONNECT = 5.0
"""Seconds to wait for a connection, at most."""
LARGEST_ANSWER = 64 << 20
"""Bytes; a longer answer is none to a question of ours."""

_STEP = 0.25
_LONGEST_TEXT = 200


class ServerError(NcodeError):
    """The model server cannot be reached, or does not answer as it should."""


class UnreachableError(ServerError):
    """No connection, or one that broke."""


class RefusedError(ServerError):
    """The server answered with an error of its own: `status`, and `reason` in its words."""

    def __init__(self, url: str, status: int, reason: str) -> None:
        super().__init__(f"{url} answers HTTP {status}: {reason}")
        self.status, self.reason = status, reason


class NoJsonError(ServerError):
    """The server answered with something else than JSON, such as a page."""


class Limit:
    """How long a piece of work may take, and whether anybody still waits for it."""

    def __init__(self, seconds: float, stop: threading.Event | None = None) -> None:
        self.seconds, self.stop = seconds, stop or threading.Event()
        self._begun = time.monotonic()

    @property
    def spent(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._begun

    @property
    def remaining(self) -> float:
        """Seconds left, above 0. Raises TimeoutError where there are none, or where the work was told to stop."""
        if self.stop.is_set():
            raise TimeoutError("the ranker was told to stop")
        left = self.seconds - self.spent
        if left <= 0:
            raise TimeoutError(f"the model server did not answer within {self.seconds:.3g} s")
        return left

    def sleep(self, seconds: float) -> None:
        """Wait, unless told to stop. Raises TimeoutError as `remaining` does."""
        self.stop.wait(min(seconds, self.remaining))
        _ = self.remaining


class HttpClient:
    """Asks one server, over one connection that is kept open. For one thread at a time."""

    def __init__(self, address: Address, key: str | None = None) -> None:
        self.address = address
        self._key = key
        self._connection: http.client.HTTPConnection | None = None

    def close(self) -> None:
        """Hang up. May be called twice; the next request connects again."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def request(self, path: str, body: object = None, *, limit: Limit, tries: int = TRIES) -> Any:
        """What the server answers to GET, or to POST with `body`, as plain Python values.

        Raises `UnreachableError`, `RefusedError` or `NoJsonError` once `tries` are used up or more are pointless,
        TimeoutError where the time is.
        """
        for attempt in range(1, tries + 1):
            try:
                status, headers, data = self._send(path, body, limit)
                return self._read(status, headers, data)
            except (UnreachableError, RefusedError) as error:
                pause = FIRST_PAUSE * 2 ** (attempt - 1) * random.uniform(0.5, 1.5)
                pause = min(pause, LONGEST_PAUSE)
                if isinstance(error, RefusedError):
                    pause = max(pause, _asked_pause(headers))
                if attempt == tries or not _may_pass(error) or pause >= limit.remaining:
                    raise
            limit.sleep(pause)
        raise AssertionError("a request is tried once at least")

    def _send(self, path: str, body: object, limit: Limit) -> tuple[int, http.client.HTTPMessage, bytes]:
        """Status, headers and content of one answer."""
        kept = self._connection is not None
        try:
            return self._exchange(path, body, limit)
        except TimeoutError:
            self.close()
            _ = limit.remaining  # it says whether the time is over or somebody said stop
            raise UnreachableError(f"{self.address.url} does not answer") from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.close()
            if kept:  # servers hang up on idle connections: that says nothing about a new one
                return self._send(path, body, limit)
            raise UnreachableError(f"{self.address.url} is not reachable ({_cause(error)})") from error

    def _exchange(self, path: str, body: object, limit: Limit) -> tuple[int, http.client.HTTPMessage, bytes]:
        connection = self._connected(limit)
        sock = connection.sock
        sock.settimeout(limit.remaining)
        headers = {"Accept": "application/json"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        data = None if body is None else json.dumps(body).encode()
        if data is not None:
            headers["Content-Type"] = "application/json"
        connection.request("GET" if data is None else "POST", self.address.path + path, data, headers)
        _wait_until_readable(sock, limit)
        response = connection.getresponse()
        content = _content(response, sock, limit)
        if response.will_close:
            self.close()
        return response.status, response.headers, content

    def _connected(self, limit: Limit) -> http.client.HTTPConnection:
        if self._connection is None:
            timeout = min(CONNECT, limit.remaining)
            at = self.address
            if at.scheme == "https":
                context = ssl.create_default_context()
                connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                    at.host, at.port, timeout=timeout, context=context
                )
            else:
                connection = http.client.HTTPConnection(at.host, at.port, timeout=timeout)
            connection.connect()
            self._connection = connection
        return self._connection

    def _read(self, status: int, headers: http.client.HTTPMessage, data: bytes) -> Any:
        if status >= 300:
            reason = f"a redirection to {headers.get('Location')}" if status < 400 else _reason(data)
            raise RefusedError(self.address.url, status, self._blotted(reason))
        try:
            return json.loads(data)
        except ValueError:
            kind = headers.get_content_type()
            raise NoJsonError(f"{self.address.url} answers with no JSON ({self._blotted(kind)})") from None

    def _blotted(self, text: str) -> str:
        return text.replace(self._key, "***") if self._key else text


def _content(response: http.client.HTTPResponse, sock: Any, limit: Limit) -> bytes:
    """The body, read in pieces, for a server that trickles never lets a single wait time out."""
    content = bytearray()
    while not response.isclosed():
        left = limit.remaining
        with contextlib.suppress(OSError):  # the server said that it would hang up, so the socket is detached already
            sock.settimeout(left)
        piece = response.read1(1 << 16)
        content += piece
        if len(content) > LARGEST_ANSWER:
            raise http.client.HTTPException("its answer does not end")
        if not piece:
            if response.length:
                raise http.client.IncompleteRead(bytes(content), response.length)
            response.read()  # nothing; but it makes the connection free again
    return bytes(content)


def _wait_until_readable(sock: Any, limit: Limit) -> None:
    with selectors.DefaultSelector() as selector:
        selector.register(sock, selectors.EVENT_READ)
        while not selector.select(min(_STEP, limit.remaining)):
            pass


def _may_pass(error: ServerError) -> bool:
    if isinstance(error, RefusedError):
        final = error.status == 500 and ("not support" in error.reason or "unsupported" in error.reason)
        return error.status in RETRIED and not final
    return not isinstance(error.__cause__, ssl.SSLCertVerificationError)


def _asked_pause(headers: http.client.HTTPMessage) -> float:
    """Seconds that ``Retry-After`` asks for: a number of them, or a date."""
    text = (headers.get("Retry-After") or "").strip()
    with contextlib.suppress(ValueError, TypeError, OverflowError):
        if text.isdecimal():
            return float(text)
        if text:
            return max(email.utils.parsedate_to_datetime(text).timestamp() - time.time(), 0.0)
    return 0.0


def _reason(data: bytes) -> str:
    """The message in an error's body, on one line."""
    text = data[:65536].decode(errors="replace")
    with contextlib.suppress(ValueError, AttributeError):
        answer = json.loads(text)
        error = answer.get("error", answer)
        message = (
            error if isinstance(error, str) else error.get("message") or error.get("detail") or answer.get("detail")
        )
        text = message if isinstance(message, str) else text
    line = " ".join(text.split())
    return line[:_LONGEST_TEXT] + ("..." if len(line) > _LONGEST_TEXT else "") or "no reason given"


def _cause(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split()) or type(error).__name__

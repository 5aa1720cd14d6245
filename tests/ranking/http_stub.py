"""A real HTTP server on loopback that answers as a test says: for what no model server can be made to do."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Seen:
    """A request as it came in."""

    path: str
    body: Any
    headers: dict[str, str]
    client: tuple[str, int]


@dataclass
class Answer:
    """What to answer: `content` as JSON, or as it is where it is bytes."""

    content: Any = None
    status: int = 200
    headers: dict[str, str] | None = None
    declared: int | None = None
    """Content length to claim in place of the truth."""
    drip: float = 0.0
    """Seconds between bytes."""
    hang_up: bool = False
    """Close the connection after the answer without a word about it."""

    @property
    def data(self) -> bytes:
        return self.content if isinstance(self.content, bytes) else json.dumps(self.content).encode()


Behaviour = Callable[[Seen], Answer]


class _QuietServer(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients may leave as they like."""


class Stub:
    """Listens from the beginning on; `close` it, or use it in a ``with``."""

    def __init__(self, behave: Behaviour, port: int = 0) -> None:
        self.behave = behave
        self.seen: list[Seen] = []
        self.done = threading.Event()
        self._connections: list[socket.socket] = []
        self._server = _QuietServer(("127.0.0.1", port), self._handler())
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def __enter__(self) -> Stub:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        self.done.set()
        self._server.shutdown()
        self._server.server_close()
        for connection in self._connections:
            with contextlib.suppress(OSError):  # closed already
                connection.shutdown(socket.SHUT_RDWR)
        self._thread.join()

    def paths(self) -> list[str]:
        return [seen.path for seen in self.seen]

    def _handler(stub) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 10
            disable_nagle_algorithm = True

            def setup(self) -> None:
                super().setup()
                stub._connections.append(self.connection)

            def do_GET(self) -> None:
                self._serve()

            def do_POST(self) -> None:
                self._serve()

            def _serve(self) -> None:
                data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                seen = Seen(self.path, json.loads(data) if data else None, dict(self.headers), self.client_address)
                stub.seen.append(seen)
                answer = stub.behave(seen)
                self.close_connection = answer.hang_up or answer.declared is not None
                try:
                    self._send(answer)
                except OSError:  # the client may leave
                    self.close_connection = True

            def _send(self, answer: Answer) -> None:
                self.send_response(answer.status)
                headers = {
                    "Content-Type": "application/json",
                    "Content-Length": str(answer.declared or len(answer.data)),
                }
                for name, value in (headers | (answer.headers or {})).items():
                    self.send_header(name, value)
                self.end_headers()
                for byte in [answer.data] if not answer.drip else [bytes([value]) for value in answer.data]:
                    self.wfile.write(byte)
                    if answer.drip and stub.done.wait(answer.drip):
                        return

            def log_message(self, *_arguments: object) -> None:
                pass

        return Handler


def model_server(reply: Callable[[Any], Any], models: tuple[str, ...] = ("m",)) -> Behaviour:
    """Lists `models`, and answers chats by `reply`, which gets the request's body and gives text or an `Answer`; knows
    nothing else.
    """

    def behave(seen: Seen) -> Answer:
        if seen.path == "/v1/models":
            return Answer({"object": "list", "data": [{"id": name} for name in models]})
        if seen.path == "/v1/chat/completions":
            said = reply(seen.body)
            return said if isinstance(said, Answer) else Answer(chat(said))
        return Answer({"error": {"message": "Not Found"}}, 404)

    return behave


def chat(content: str, **more: Any) -> dict[str, Any]:
    """An answer of the chat endpoint."""
    return {"choices": [{"index": 0, "message": {"role": "assistant", "content": content}, **more}]}

"""HTTP that ends: every misbehaviour of a server costs a bounded time and gives one clear error."""

from __future__ import annotations

import email.utils
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from ncode_search.agent.errors import InputError
from ncode_search.agent.ranking import http_client
from ncode_search.agent.ranking.address import is_url, parse_address
from ncode_search.agent.ranking.http_client import (
    HttpClient,
    Limit,
    NoJsonError,
    RefusedError,
    UnreachableError,
)

from .http_stub import Answer, Stub

KEY = "sk-very-secret"


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_client, "FIRST_PAUSE", 0.02)


@pytest.fixture
def stub() -> Iterator[Stub]:
    with Stub(lambda _seen: Answer({"fine": True})) as made:
        yield made


@pytest.fixture
def client(stub: Stub) -> Iterator[HttpClient]:
    made = HttpClient(parse_address(stub.url), KEY)
    yield made
    made.close()


def in_turn(*answers: Answer):
    left = list(answers)
    return lambda _seen: left.pop(0) if len(left) > 1 else left[0]


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def test_get_and_post_over_one_connection(stub: Stub, client: HttpClient) -> None:
    assert client.request("/a", limit=Limit(5)) == {"fine": True}
    assert client.request("/b", {"x": [1]}, limit=Limit(5)) == {"fine": True}
    assert [(seen.path, seen.body) for seen in stub.seen] == [("/a", None), ("/b", {"x": [1]})]
    assert len({seen.client for seen in stub.seen}) == 1
    assert all(seen.headers["Authorization"] == f"Bearer {KEY}" for seen in stub.seen)


def test_no_key_no_header(stub: Stub) -> None:
    client = HttpClient(parse_address(stub.url))
    client.request("/a", limit=Limit(5))
    client.close()
    assert "Authorization" not in stub.seen[0].headers


def test_a_connection_that_was_closed_meanwhile_is_made_again(stub: Stub, client: HttpClient) -> None:
    stub.behave = lambda _seen: Answer({"fine": True}, hang_up=True)
    for _ in range(3):
        assert client.request("/a", {}, limit=Limit(5), tries=1) == {"fine": True}
        time.sleep(0.05)


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_busy_server_is_asked_again(stub: Stub, client: HttpClient, status: int) -> None:
    stub.behave = in_turn(Answer({}, status), Answer({}, status), Answer([1]))
    assert client.request("/a", {}, limit=Limit(5)) == [1]
    assert len(stub.seen) == 3


def test_tries_are_bounded(stub: Stub, client: HttpClient) -> None:
    stub.behave = in_turn(Answer({"error": {"message": "CUDA out\nof memory"}}, 500))
    with pytest.raises(RefusedError, match=r"http://127.0.0.1:\d+ answers HTTP 500: CUDA out of memory"):
        client.request("/a", {}, limit=Limit(5))
    assert len(stub.seen) == http_client.TRIES


@pytest.mark.parametrize("status", [400, 401, 404, 501])
def test_an_error_that_stays_is_not_tried_again(stub: Stub, client: HttpClient, status: int) -> None:
    stub.behave = in_turn(Answer({"detail": "no"}, status))
    with pytest.raises(RefusedError, match=f"HTTP {status}: no"):
        client.request("/a", {}, limit=Limit(5))
    assert len(stub.seen) == 1


def test_retry_after_is_kept_to(stub: Stub, client: HttpClient) -> None:
    stub.behave = in_turn(Answer({}, 429, {"Retry-After": "1"}), Answer("fine"))
    began = time.monotonic()
    assert client.request("/a", {}, limit=Limit(5)) == "fine"
    assert 1 <= time.monotonic() - began < 2


@pytest.mark.parametrize("is_date", [False, True])
def test_retry_after_that_does_not_fit_ends_it(stub: Stub, client: HttpClient, is_date: bool) -> None:
    text = email.utils.formatdate(time.time() + 3600, usegmt=True) if is_date else "3600"
    stub.behave = in_turn(Answer({"error": "come later"}, 503, {"Retry-After": text}))
    began = time.monotonic()
    with pytest.raises(RefusedError, match="come later"):
        client.request("/a", {}, limit=Limit(5))
    assert time.monotonic() - began < 1
    assert len(stub.seen) == 1


@pytest.mark.parametrize("text", ["soon", "-3", "Fri, 99 Nov 2026"])
def test_retry_after_that_says_nothing(stub: Stub, client: HttpClient, text: str) -> None:
    stub.behave = in_turn(Answer({}, 503, {"Retry-After": text}), Answer("fine"))
    assert client.request("/a", {}, limit=Limit(5)) == "fine"


def test_a_stalled_server(stub: Stub, client: HttpClient) -> None:
    stub.behave = lambda _seen: Answer(stub.done.wait(5))
    began = time.monotonic()
    with pytest.raises(TimeoutError, match="did not answer within 0.4 s"):
        client.request("/a", {}, limit=Limit(0.4))
    assert time.monotonic() - began < 1.5


def test_an_answer_that_trickles(stub: Stub, client: HttpClient) -> None:
    stub.behave = lambda _seen: Answer("x" * 1000, drip=0.02)
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        client.request("/a", {}, limit=Limit(0.4))
    assert time.monotonic() - began < 1.5


def test_stop_ends_a_wait(stub: Stub, client: HttpClient) -> None:
    stub.behave = lambda _seen: Answer(stub.done.wait(10))
    stop = threading.Event()
    threading.Timer(0.2, stop.set).start()
    began = time.monotonic()
    with pytest.raises(TimeoutError, match="told to stop"):
        client.request("/a", {}, limit=Limit(30, stop))
    assert time.monotonic() - began < 2


def test_stop_ends_a_pause(stub: Stub, client: HttpClient) -> None:
    stub.behave = in_turn(Answer({}, 429, {"Retry-After": "20"}))
    stop = threading.Event()
    threading.Timer(0.2, stop.set).start()
    began = time.monotonic()
    with pytest.raises(TimeoutError, match="told to stop"):
        client.request("/a", {}, limit=Limit(30, stop))
    assert time.monotonic() - began < 2


def test_nobody_listens() -> None:
    port = free_port()
    client = HttpClient(parse_address(f"http://127.0.0.1:{port}"))
    with pytest.raises(UnreachableError, match=rf"http://127.0.0.1:{port} is not reachable \(Connection refused\)"):
        client.request("/a", limit=Limit(5))


def test_a_server_that_hangs_up(stub: Stub, client: HttpClient) -> None:
    stub.behave = lambda _seen: Answer("cut", declared=1000)
    with pytest.raises(UnreachableError):
        client.request("/a", {}, limit=Limit(5), tries=2)


def test_another_protocol() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def greet() -> None:
            for _ in range(2):
                with listener.accept()[0] as connection:
                    connection.sendall(b"SSH-2.0-OpenSSH\r\n")
                    connection.recv(1000)

        thread = threading.Thread(target=greet)
        thread.start()
        client = HttpClient(parse_address(f"http://127.0.0.1:{listener.getsockname()[1]}"))
        with pytest.raises(UnreachableError, match="SSH-2.0"):
            client.request("/a", limit=Limit(5), tries=2)
        thread.join()


def test_a_page(stub: Stub, client: HttpClient) -> None:
    stub.behave = lambda _seen: Answer(b"<html>Welcome", headers={"Content-Type": "text/html"})
    with pytest.raises(NoJsonError, match=r"answers with no JSON \(text/html\)"):
        client.request("/a", limit=Limit(5))


def test_an_answer_without_end(stub: Stub, client: HttpClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_client, "LARGEST_ANSWER", 1000)
    stub.behave = lambda _seen: Answer("x" * 200_000)
    with pytest.raises(UnreachableError, match="does not end"):
        client.request("/a", limit=Limit(5), tries=1)


def test_redirections_are_not_followed(stub: Stub, client: HttpClient) -> None:
    with Stub(lambda _seen: Answer({})) as other:
        stub.behave = lambda _seen: Answer({}, 307, {"Location": other.url})
        with pytest.raises(RefusedError, match=f"HTTP 307: a redirection to {other.url}"):
            client.request("/a", {}, limit=Limit(5))
        assert other.seen == []


@pytest.mark.parametrize("content", [{"error": {"message": f"bad key {KEY}"}}, f"bad key {KEY}".encode()])
def test_the_key_is_in_no_error(stub: Stub, client: HttpClient, content: object) -> None:
    stub.behave = lambda _seen: Answer(content, 401)
    with pytest.raises(RefusedError, match=r"bad key \*\*\*") as caught:
        client.request("/a", {}, limit=Limit(5))
    assert KEY not in str(caught.value) + caught.value.reason


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("HTTP://Localhost:8080/v1/", "http://localhost:8080"),
        ("https://example.org/llm/v1", "https://example.org/llm"),
        ("http://[::1]:80/", "http://[::1]:80"),
    ],
)
def test_addresses(text: str, url: str) -> None:
    assert is_url(text)
    assert parse_address(text).url == url


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("http://", "no server's address"),
        ("http://host:port", "no address"),
        ("http://host:8080?key=1", "no server's address"),
        ("http://me:secret@host", "password in its address"),
    ],
)
def test_no_addresses(text: str, wrong: str) -> None:
    with pytest.raises(InputError, match=wrong) as caught:
        parse_address(text)
    assert "secret" not in str(caught.value)


def test_paths_are_no_urls() -> None:
    assert not any(map(is_url, ("smollm2", "models/x.gguf", "https.gguf", "/http://x")))

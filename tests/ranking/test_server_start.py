"""What a server ranker needs before it can ask: an address, a server that answers, a model, an API key."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from ncode_search import Search
from ncode_search.agent.errors import InputError
from ncode_search.agent.ranking import http_client, make_ranker
from ncode_search.agent.ranking.server import ServerRanker, ServerSettings
from ncode_search.agent.search_file import Overrides, SearchFile
from ncode_search.agent.settings import RankerSettings

from .conftest import make_space
from .http_stub import Answer, Behaviour, Seen, Stub
from .real_servers import free_port


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_client, "FIRST_PAUSE", 0.02)
    monkeypatch.delenv("NCODE_API_KEY", raising=False)


def lists(content: Any, status: int = 200, kind: str = "application/json") -> Behaviour:
    return lambda _seen: Answer(content, status, {"Content-Type": kind})


@pytest.mark.parametrize(
    ("behave", "complaint"),
    [
        (lists(b"<html>", 200, "text/html"), r"answers with no JSON \(text/html\): give the address"),
        (lists({"detail": "Not Found"}, 404), r"does not list its models \(HTTP 404: Not Found\): give the address"),
        (
            lists({}, 403),
            r"wants an API key \(HTTP 403\): put the right one into the environment variable NCODE_API_KEY",
        ),
        (lists({"error": "broken"}, 500), r"does not list its models \(HTTP 500: broken\): see its log"),
        (lists({"data": []}), "lists no models"),
        (lists(["x"]), "lists no models"),
        (lists({"data": [{"id": "a"}, {"id": "b"}, 7]}), "server_model 'm' is not on .*: choose one of a, b$"),
    ],
)
def test_load_says_what_is_wrong(behave: Behaviour, complaint: str) -> None:
    with Stub(behave) as stub, pytest.raises(InputError, match=complaint) as caught:
        ServerRanker(make_space(), stub.url, settings=ServerSettings("m")).load()
    assert "\n" not in str(caught.value)
    assert stub.url in str(caught.value)


def test_load_says_that_nobody_listens() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(InputError, match=rf"^model {url} is not reachable \(Connection refused\): start the server"):
        ServerRanker(make_space(), url).load()


def test_a_server_that_is_still_loading_is_waited_for() -> None:
    answers = [Answer({"error": {"message": "Loading model"}}, 503)] * 2 + [Answer({"data": [{"id": "m"}]})]
    with Stub(lambda _seen: answers.pop(0)) as stub:
        ranker = ServerRanker(make_space(), stub.url)
        ranker.load()
        ranker.close()
    assert ranker.info.model == f"{stub.url} m"


def test_the_key_comes_from_the_variable_that_the_settings_name(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = ServerSettings(api_key_env="MY_KEY")
    with Stub(lists({"data": [{"id": "m"}]})) as stub:
        ranker = ServerRanker(make_space(), stub.url, settings=settings)
        with pytest.raises(InputError, match="variable MY_KEY has no API key: set it"):
            ranker.load()
        monkeypatch.setenv("MY_KEY", "sk-1\x01")
        with pytest.raises(InputError, match="holds no API key") as caught:
            ranker.load()
        assert "sk-1" not in str(caught.value)
        monkeypatch.setenv("MY_KEY", " sk-1\n")
        ranker.load()
        ranker.close()
    assert [seen.headers["Authorization"] for seen in stub.seen] == ["Bearer sk-1"]


def test_a_key_that_a_server_quotes_is_kept_nowhere(tmp_path: Path, monkeypatch, caplog) -> None:
    monkeypatch.setenv("NCODE_API_KEY", "sk-quoted")
    caplog.set_level(logging.DEBUG)

    def behave(seen: Seen) -> Answer:
        if seen.path == "/v1/models":
            return Answer({"data": [{"id": "m"}]})
        return Answer({"error": {"message": f"no quota for {seen.headers['Authorization']}"}}, 403)

    with Stub(behave) as stub:
        settings = RankerSettings(model=stub.url, pool=8, startup=0, deadline=5)
        with Search(make_space(), history=tmp_path / "x.db", ranker_settings=settings) as search:
            search.tell(search.ask(), 1.0)
            with search.history() as history:
                (row,) = history.db["decisions"].rows
    assert (row["ranker"], row["fallback"]) == ("evolution", 1)
    assert row["reason"].endswith("HTTP 403: no quota for Bearer ***")
    assert "sk-quoted" not in caplog.text
    assert all(b"sk-quoted" not in file.read_bytes() for file in tmp_path.iterdir())


def test_make_ranker() -> None:
    ranker = make_ranker("llama", make_space(), model="https://example.org/v1", shuffles=2, server_model="x")
    assert isinstance(ranker, ServerRanker)
    assert ranker.info.model == "https://example.org"


def test_a_search_file_and_the_command_line_name_a_server(tmp_path: Path) -> None:
    path = tmp_path / "search.toml"
    path.write_text(
        '[search]\nhistory = "x.db"\n[space]\na = [1, 2]\n[evaluator]\nkind = "python"\nfunction = "m:f"\n'
        '[ranker]\nmodel = "http://127.0.0.1:8080"\nshuffles = 2\nserver_model = "m"\napi_key_env = "MY_KEY"\n'
    )
    file = SearchFile.load(path)
    assert (file.ranker.model, file.ranker.shuffles) == ("http://127.0.0.1:8080", 2)
    assert (file.ranker.server_model, file.ranker.api_key_env) == ("m", "MY_KEY")
    assert SearchFile.load(path, Overrides(ranker="http://host:1/v1")).ranker.model == "http://host:1/v1"

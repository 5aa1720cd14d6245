"""Which way a server is asked, and what becomes of servers that misbehave: those that no real one here can show."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from ncode_search.agent.errors import RankerGoneError
from ncode_search.agent.ranking import http_client
from ncode_search.agent.ranking.http_client import Limit, ServerError
from ncode_search.agent.ranking.server import ServerRanker, ServerSettings
from ncode_search.agent.ranking.server_ways import grammar, named_in

from .conftest import make_codes, make_known, make_space
from .http_stub import Answer, Behaviour, Seen, Stub, chat, model_server

POOL = make_codes(8, seed=3)
CODES = make_space().to_text(POOL)
KNOWN = make_known(7)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_client, "FIRST_PAUSE", 0.02)
    monkeypatch.delenv("NCODE_API_KEY", raising=False)


@pytest.fixture
def start() -> Iterator[Callable[..., tuple[Stub, ServerRanker]]]:
    """A server that behaves like that, and a loaded ranker that asks it."""
    made: list[Stub | ServerRanker] = []

    def start_one(behave: Behaviour, shuffles: int = 1, deadline: float = 10.0) -> tuple[Stub, ServerRanker]:
        stub = Stub(behave)
        settings = ServerSettings(deadline=deadline)
        ranker = ServerRanker(make_space(), stub.url, shuffles=shuffles, settings=settings)
        made.extend((ranker, stub))
        ranker.load()
        return stub, ranker

    yield start_one
    for thing in made:
        thing.close()


def score(ranker: ServerRanker, seed: int = 5) -> np.ndarray:
    return ranker.score(KNOWN, POOL, np.random.default_rng(seed))


def listed(body: Any) -> list[str]:
    """The pool as the prompt lists it."""
    return re.findall(r"(\w+);", body["messages"][0]["content"])


def test_the_ways_in_their_order(start) -> None:
    """A server that keeps to nothing is asked in every way, the best first; the one that worked is kept."""
    stub, ranker = start(model_server(lambda body: f"I choose {CODES[2]}."))
    assert score(ranker).tolist() == [0, 0, 1, 0, 0, 0, 0, 0]
    asked = [(seen.path, sorted((seen.body or {}).keys() - {"model", "messages", "stream"})) for seen in stub.seen[1:]]
    chats = "/v1/chat/completions"
    basic = ["max_tokens", "temperature"]
    assert asked == [
        ("/apply-template", []),
        ("/apply-template", []),
        ("/tokenize", ["add_generation_prompt"]),
        ("/tokenize", ["add_generation_prompt"]),
        (chats, sorted(["grammar", "logprobs", "repeat_penalty", "top_logprobs", *basic])),
        ("/v1/completions", ["echo", "logprobs", "max_tokens", "prompt", "temperature"]),
        (chats, sorted(["grammar", "repeat_penalty", *basic])),
        (chats, sorted(["structured_outputs", *basic])),
        (chats, sorted(["guided_choice", *basic])),
        (chats, basic),
    ]
    before = len(stub.seen)
    score(ranker)
    assert len(stub.seen) == before + 1, "what worked once is asked at once"


@pytest.mark.parametrize("dialect", ["grammar", "structured_outputs", "guided_choice"])
def test_constraints(start, dialect: str) -> None:
    def reply(body: Any) -> str | Answer:
        if body.get("logprobs") or dialect not in body:
            return "Let me think"
        if dialect == "grammar":
            assert body["grammar"] == grammar(CODES)
        else:
            choice = body[dialect]
            assert (choice["choice"] if dialect == "structured_outputs" else choice) == CODES
        return listed(body)[0]  # favours the list's head

    stub, ranker = start(model_server(reply), shuffles=3)
    scores = score(ranker)
    heads = [listed(seen.body)[0] for seen in stub.seen[-3:]]
    expected = [heads.count(code) / 3 for code in CODES]
    assert scores.tolist() == pytest.approx(expected)
    assert len(set(heads)) > 1, "each order has its own head"


def test_a_constraint_that_is_refused_with_an_error_of_the_server(start) -> None:
    def reply(body: Any) -> str | Answer:
        if "grammar" in body:
            return Answer({"error": {"message": "grammar backend crashed"}}, 500)
        if "structured_outputs" in body or "guided_choice" in body:
            return Answer({"error": {"message": "extra fields not permitted"}}, 422)
        return CODES[1]

    _, ranker = start(model_server(reply))
    assert int(np.argmax(score(ranker))) == 1


def test_a_way_that_is_kept_no_more_gives_place_to_the_next(start) -> None:
    obedient = [True]

    def reply(body: Any) -> str:
        constrained = "grammar" in body and not body.get("logprobs")
        return CODES[3] if constrained and obedient[0] else f"maybe {CODES[4]}" if "seed" not in body else CODES[4]

    stub, ranker = start(model_server(reply))
    assert int(np.argmax(score(ranker))) == 3
    obedient[0] = False
    assert int(np.argmax(score(ranker))) == 4
    assert "/apply-template" not in stub.paths()[-4:]


def test_an_error_of_the_server_does_not_change_the_way(start) -> None:
    broken = [False]

    def reply(body: Any) -> str | Answer:
        if broken[0]:
            return Answer({"error": "overloaded"}, 500)
        return CODES[3] if "grammar" in body and not body.get("logprobs") else "no"

    stub, ranker = start(model_server(reply))
    score(ranker)
    broken[0] = True
    before = len(stub.seen)
    with pytest.raises(ServerError, match="HTTP 500: overloaded"):
        score(ranker)
    assert len(stub.seen) - before == http_client.TRIES
    broken[0] = False
    assert int(np.argmax(score(ranker))) == 3
    assert len(stub.seen) - before == http_client.TRIES + 1


def token_value(token: int) -> float:
    return -0.1 * token


def echoing(seen: Seen) -> Answer:
    """As vLLM: tokens are the characters' numbers, 1 begins the prompt, 2 is generated."""
    if seen.path == "/v1/models":
        return Answer({"data": [{"id": "m"}]})
    if seen.path == "/tokenize" and "messages" in seen.body:
        return Answer({"tokens": [1, *map(ord, seen.body["messages"][0]["content"])]})
    if seen.path == "/tokenize":
        assert seen.body["add_special_tokens"] is False
        return Answer({"tokens": [ord(character) for character in seen.body["prompt"]]})
    if seen.path == "/v1/completions" and isinstance(seen.body["prompt"][0], list):
        found = [
            {"index": at, "logprobs": {"token_logprobs": [None, *map(token_value, [*prompt[1:], 2])]}}
            for at, prompt in enumerate(seen.body["prompt"])
        ]
        return Answer({"choices": found[::-1]})
    return Answer({}, 404)


def test_echoed_tokens(start) -> None:
    stub, ranker = start(echoing, shuffles=2)
    pool = make_codes(40, seed=3)
    expected = [np.mean([token_value(ord(character)) for character in code]) for code in make_space().to_text(pool)]
    np.testing.assert_allclose(ranker.score(KNOWN, pool, np.random.default_rng(5)), expected)
    assert [len(seen.body["prompt"]) for seen in stub.seen if seen.path == "/v1/completions"] == [16, 16, 8] * 2


def forced(body: Any, logprob: float) -> Answer:
    code = re.findall(r'"(\w+)"', body["grammar"])[0]
    content = [{"token": character, "logprob": logprob} for character in code] + [{"token": "", "logprob": -9.0}]
    return Answer(chat(code, logprobs={"content": content}))


def test_log_probabilities_after_the_grammar_are_not_believed(start) -> None:
    def reply(body: Any) -> str | Answer:
        if body.get("logprobs"):
            return forced(body, 0.0)
        return CODES[1]

    _, ranker = start(model_server(reply))
    assert score(ranker).tolist() == [0, 1, 0, 0, 0, 0, 0, 0]


def test_log_probabilities_before_the_grammar(start) -> None:
    _, ranker = start(model_server(lambda body: forced(body, -1.5)))
    assert score(ranker).tolist() == [-1.5] * 8, "the end of the answer does not count"


def test_the_prompt_as_the_users(start) -> None:
    def reply(body: Any) -> str | Answer:
        if body["messages"][0]["role"] == "system":
            return Answer({"error": {"message": "Only user and assistant roles are supported!"}}, 400)
        return forced(body, -1.0)

    stub, ranker = start(model_server(reply))
    score(ranker)
    before = len(stub.seen)
    score(ranker)
    assert {seen.body["messages"][0]["role"] for seen in stub.seen[before:]} == {"user"}


def test_the_history_is_cut_to_the_context(start) -> None:
    """The best trials stay; only at last the pool's list goes."""
    room = [150]

    def reply(body: Any) -> str | Answer:
        if len(body["messages"][0]["content"]) > room[0]:
            return Answer({"error": {"message": "request exceeds the available context size"}}, 400)
        return forced(body, -1.0)

    stub, ranker = start(model_server(reply))
    known = make_known(100)
    full = make_space().to_text(known.codes[known.best(100)])

    def prompt_for(characters: int) -> str:
        room[0] = characters
        ranker.score(known, POOL, np.random.default_rng(5))
        return str(stub.seen[-1].body["messages"][0]["content"])

    prompt = prompt_for(150)
    assert prompt.count("|") > 3
    assert prompt.startswith(f"{full[0]}|1.0,{full[1]}|")
    assert prompt.count(";") == 8
    assert prompt_for(60).count("|") == 0, "8 candidates take 56 characters"
    assert prompt_for(50).count(";") == 0
    assert prompt_for(50).count("|") > 1
    with pytest.raises(ServerError, match="context size"):
        prompt_for(-1)


@pytest.mark.parametrize(
    ("answer", "named"),
    [
        ("0123", {"0123"}),
        ("The best is `3210`.", {"3210"}),
        ("0123, not 3210", {"0123", "3210"}),
        ("01234 or 30123", set()),
        ("0123.5", set()),
        ("<think>0123 or 3210? 3210 is worse</think>\n0123", {"0123"}),
        ("I cannot", set()),
    ],
)
def test_what_an_answer_names(answer: str, named: set[str]) -> None:
    assert named_in(answer, ["0123", "3210", "1111"]) == named


def test_text_is_asked_for_again_a_few_times(start) -> None:
    replies = iter(["no idea"] * 20)
    stub, ranker = start(model_server(lambda body: next(replies)))
    with pytest.raises(ServerError, match="named no single candidate in 3 answers"):
        score(ranker)
    plain = [seen.body for seen in stub.seen if seen.path.endswith("chat/completions")][-3:]
    assert [body["temperature"] for body in plain] == [0.0, 0.7, 0.7]
    assert [body.get("seed") for body in plain] == [None, 1, 2]


def test_an_order_of_the_pool_that_would_come_too_late_is_left_out(start, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the clock of a server that takes 5 s an answer, 40 s an order, of the 190 s there are."""
    spent = [0.0]

    def reply(body: Any) -> Answer:
        spent[0] += 5.0
        return forced(body, -1.0)

    monkeypatch.setattr(Limit, "spent", property(lambda limit: spent[0]))
    stub, ranker = start(model_server(reply), shuffles=20, deadline=200.0)
    assert score(ranker).tolist() == pytest.approx([-1.0] * 8)
    assert spent == [160.0]
    orders = {tuple(listed(seen.body)) for seen in stub.seen if seen.path.endswith("chat/completions")}
    assert len(orders) == 4


def test_a_way_that_is_too_slow_gives_place_to_the_next(start, caplog: pytest.LogCaptureFixture) -> None:
    def reply(body: Any) -> str | Answer:
        if body.get("logprobs"):
            time.sleep(1.0)
            return forced(body, -1.0)
        return CODES[5]

    stub, ranker = start(model_server(reply), deadline=8.0)
    with caplog.at_level(logging.WARNING):
        assert int(np.argmax(score(ranker))) == 5
    assert "only names a winner: by grammar" in caplog.text
    assert re.search(r"8 candidates at \d[.\d]* s each take too long", caplog.text)
    assert not any("echo" in seen.body for seen in stub.seen if seen.body), "an echo would be no faster"
    before = len(stub.seen)
    assert int(np.argmax(score(ranker))) == 5
    assert len(stub.seen) == before + 1


def test_a_way_that_took_all_the_time_is_not_taken_again(start, caplog: pytest.LogCaptureFixture) -> None:
    def reply(body: Any) -> str | Answer:
        return Answer(stub.done.wait(5)) if body.get("logprobs") else CODES[5]

    stub, ranker = start(model_server(reply), deadline=0.5)
    with pytest.raises(TimeoutError):
        score(ranker)
    assert int(np.argmax(score(ranker))) == 5
    assert "only names a winner: by grammar (log-likelihoods of every candidate took too long)" in caplog.text


def test_stop_and_deadline(start) -> None:
    stub, ranker = start(model_server(lambda body: Answer(stub.done.wait(20))), deadline=0.5)
    began = time.monotonic()
    with pytest.raises(TimeoutError, match="did not answer within 0.475 s"):
        score(ranker)
    ranker._settings = ServerSettings(deadline=60)
    threading.Timer(0.2, ranker.stop.set).start()
    with pytest.raises(TimeoutError, match="told to stop"):
        score(ranker)
    assert time.monotonic() - began < 3


@pytest.mark.parametrize(
    "content", [b"\xff\xfe garbage", {"choices": []}, {"choices": [{"message": None}]}, [], "x", None]
)
def test_garbage(start, content: object) -> None:
    _, ranker = start(model_server(lambda body: Answer(content)))
    began = time.monotonic()
    with pytest.raises(ServerError, match="can be asked in no way"):
        score(ranker)
    assert time.monotonic() - began < 2


def test_not_loaded_is_loaded_when_it_is_asked() -> None:
    ranker = ServerRanker(make_space(), "http://127.0.0.1:1")
    ranker.close()
    with pytest.raises(RankerGoneError, match="is not reachable"):
        score(ranker)


def test_another_server_that_comes_back_is_asked_anew(start) -> None:
    stub, ranker = start(model_server(lambda body: f"I choose {CODES[2]}."))
    score(ranker)
    stub.close()
    with pytest.raises(ServerError, match="is not reachable"):
        score(ranker)
    with Stub(model_server(lambda body: forced(body, -1.0)), stub.port):
        assert score(ranker).tolist() == [-1.0] * 8

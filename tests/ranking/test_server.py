"""The server ranker against real llama.cpp servers, which tests start on loopback with the tiny model."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from ncode_search import Search
from ncode_search.agent.errors import InputError
from ncode_search.agent.observations import Observations
from ncode_search.agent.ranking.llama import LlamaRanker
from ncode_search.agent.ranking.llama_session import SessionSettings
from ncode_search.agent.ranking.server import ServerRanker, ServerSettings
from ncode_search.agent.settings import RankerSettings

from . import tiny_gguf
from .conftest import make_codes, make_known, make_space
from .real_servers import KEY, RealServer, binary_server, llama_server_binary, python_server

needs_binary = pytest.mark.skipif(llama_server_binary() is None, reason="there is no llama-server here")
pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("fastapi") is None, reason="llama-cpp-python[server] is not installed"
)
MakeServer = Callable[..., ServerRanker]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The tiny model; one whose tokens are single characters; that one again without template, for bare text."""
    folder = tmp_path_factory.mktemp("models")
    made = {"merged": tiny_gguf.write_tiny_gguf(folder / "merged.gguf")}
    patch = pytest.MonkeyPatch()
    patch.setattr(tiny_gguf, "MERGES", ("x y",))
    made["single"] = tiny_gguf.write_tiny_gguf(folder / "single.gguf")
    made["bare"] = tiny_gguf.write_tiny_gguf(folder / "bare.gguf", template=None, add_bos=True)
    patch.undo()
    return made


@pytest.fixture(scope="module")
def server(models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    folder = tmp_path_factory.mktemp("python_server")
    listed = {name: {"model": str(path), "logits_all": True} for name, path in models.items()}
    listed["quiet"] = {"model": str(models["single"]), "logits_all": False}  # gives no probabilities
    made = python_server(folder, **listed)
    made.start()
    yield made
    made.kill()


@pytest.fixture(scope="module")
def binary(models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    made = binary_server(tmp_path_factory.mktemp("llama_server"), models["merged"])
    made.start()
    yield made
    made.kill()


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NCODE_API_KEY", KEY)


@pytest.fixture
def make(request: pytest.FixtureRequest) -> MakeServer:
    """Loaded rankers, closed after the test."""

    def make_one(url: str, model: str | None = None, options: int = 4, length: int = 6, **more: int) -> ServerRanker:
        more = {"shuffles": 1} | more
        settings = ServerSettings(model, deadline=30)
        ranker = ServerRanker(make_space(options, length), url, settings=settings, **more)
        ranker.load()
        request.addfinalizer(ranker.close)
        return ranker

    return make_one


def local_scores(model: Path, known: Observations, pool: np.ndarray, shuffles: int = 1) -> np.ndarray:
    """What the same model says in this process."""
    settings = SessionSettings(threads=1, context=1024)
    ranker = LlamaRanker(make_space(), model=str(model), settings=settings, shuffles=shuffles)
    ranker.load()
    scores = ranker.score(known, pool, np.random.default_rng(5))
    ranker.close()
    return scores


def check_alike(scores: np.ndarray, expected: np.ndarray) -> None:
    """The same numbers, up to caches in half precision, and so the same ranking."""
    np.testing.assert_allclose(scores, expected, atol=0.05)
    apart = np.abs(expected[:, None] - expected[None, :]) > 0.1
    assert apart.mean() > 0.8, "the comparison says little where all candidates are alike"
    assert ((scores[:, None] > scores[None, :]) == (expected[:, None] > expected[None, :]))[apart].all()


@pytest.mark.parametrize("shuffles", [1, 3])
def test_the_chat_endpoint_ranks_as_the_model_in_this_process(
    make: MakeServer, server: RealServer, models: dict[str, Path], shuffles: int
) -> None:
    known, pool = make_known(7), make_codes(12, seed=3)
    ranker = make(server.url, "single", shuffles=shuffles)
    scores = ranker.score(known, pool, np.random.default_rng(5))
    check_alike(scores, local_scores(models["single"], known, pool, shuffles))
    assert ranker._way is not None
    assert ranker._way.name == "log-likelihoods under a grammar"


@needs_binary
@pytest.mark.parametrize("shuffles", [1, 3])
def test_llama_server_ranks_as_the_model_in_this_process(
    make: MakeServer, binary: RealServer, models: dict[str, Path], shuffles: int
) -> None:
    known, pool = make_known(7), make_codes(12, seed=3)
    ranker = make(binary.url, shuffles=shuffles)
    scores = ranker.score(known, pool, np.random.default_rng(5))
    check_alike(scores, local_scores(models["merged"], known, pool, shuffles))
    assert ranker._way is not None
    assert ranker._way.name == "log-likelihoods under a grammar of tokens"


def test_echoed_text_ranks_as_the_model_in_this_process(
    make: MakeServer, server: RealServer, models: dict[str, Path], only_way: Callable[[str], None]
) -> None:
    only_way("log-likelihoods of echoed text")
    known, pool = make_known(5), make_codes(8, seed=3)
    scores = make(server.url, "bare").score(known, pool, np.random.default_rng(5))
    check_alike(scores, local_scores(models["bare"], known, pool))


def test_echoed_text_that_is_shifted_is_not_believed(
    make: MakeServer, server: RealServer, only_way: Callable[[str], None]
) -> None:
    only_way("log-likelihoods of echoed text")
    with pytest.raises(Exception, match="belong to other tokens"):
        make(server.url, "single").score(make_known(5), make_codes(8, seed=3), np.random.default_rng(5))


@pytest.fixture
def only_way(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Leaves a server ranker no choice."""
    from ncode_search.agent.ranking import server as module
    from ncode_search.agent.ranking.server_ways import all_ways

    def choose(name: str) -> None:
        monkeypatch.setattr(module, "all_ways", lambda: [way for way in all_ways() if way.name == name])

    return choose


def test_without_probabilities_the_grammar_finds_a_winner(
    make: MakeServer, server: RealServer, caplog: pytest.LogCaptureFixture
) -> None:
    known, pool = make_known(7), make_codes(12, seed=3)
    ranker = make(server.url, "quiet", shuffles=2)
    with caplog.at_level(logging.WARNING):
        scores = ranker.score(known, pool, np.random.default_rng(5))
    assert scores.sum() == 1
    assert set(scores.tolist()) <= {0, 0.5, 1}
    assert "only names a winner: by grammar" in caplog.text
    np.testing.assert_array_equal(ranker.score(known, pool, np.random.default_rng(5)), scores)


@pytest.mark.parametrize("trials", [0, 1, 40, 1000])
@pytest.mark.parametrize("count", [1, 10])
def test_history_and_pool(make: MakeServer, server: RealServer, trials: int, count: int) -> None:
    scores = make(server.url, "single").score(make_known(trials), make_codes(count, seed=3), np.random.default_rng(5))
    assert scores.shape == (count,)
    assert np.isfinite(scores).all()


@pytest.mark.parametrize(("options", "length", "count"), [(64, 9, 8), (4, 24, 100), (3, 1, 3)])
def test_spaces(make: MakeServer, server: RealServer, options: int, length: int, count: int) -> None:
    ranker = make(server.url, "quiet", options, length)
    pool = np.unique(make_codes(count, options, length, seed=3), axis=0)
    assert ranker.score(make_known(12, options, length), pool, np.random.default_rng(5)).sum() == 1


def test_info(make: MakeServer, server: RealServer) -> None:
    info = make(server.url + "/v1/", "single").info
    assert (info.name, info.model, info.digest) == ("server", f"{server.url} single", None)
    assert make(server.url).info.model == f"{server.url} merged", "the first one"


def test_a_wrong_key(make: MakeServer, server: RealServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NCODE_API_KEY", "wrong")
    with pytest.raises(
        InputError, match=r"does not take the API key \(HTTP 401\): put the right one into .* NCODE_API"
    ):
        make(server.url)
    monkeypatch.delenv("NCODE_API_KEY")
    with pytest.raises(InputError, match=r"wants an API key \(HTTP 401\)"):
        make(server.url)


def test_an_unknown_model(make: MakeServer, server: RealServer) -> None:
    with pytest.raises(InputError, match=r"server_model 'x' is not on http://.*: choose one of merged, single, bare"):
        make(server.url, "x")


def ask(search: Search, times: int) -> None:
    for _ in range(times):
        trial = search.ask()
        search.tell(trial, float(sum(map(int, trial.code))))


@pytest.mark.slow
def test_a_search_outlives_its_server(server: RealServer, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings = RankerSettings(
        model=server.url, server_model="single", pool=8, startup=2, shuffles=1, deadline=20, history=5
    )
    caplog.set_level(logging.DEBUG)
    path = tmp_path / "search.db"
    with Search(make_space(), history=path, ranker_settings=settings) as search:
        ask(search, 4)
        server.kill()
        ask(search, 2)
        server.start()
        ask(search, 2)
        with search.history() as history:
            rows = list(history.db["decisions"].rows)
    deciders = ["random"] * 2 + ["server"] * 2 + ["evolution"] * 2 + ["server"] * 2
    assert [row["ranker"] for row in rows] == deciders
    assert [row["fallback"] for row in rows] == [0] * 4 + [1] * 2 + [0] * 2
    assert all("is not reachable" in row["reason"] for row in rows[4:6])
    assert {row["model"] for row in rows if row["ranker"] == "server"} == {f"{server.url} single"}
    kept = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert KEY.encode() not in kept
    assert KEY not in caplog.text


@needs_binary
def test_a_search_with_llama_server(binary: RealServer, tmp_path: Path) -> None:
    settings = RankerSettings(model=binary.url, pool=32, startup=2, deadline=20)
    with Search(make_space(), history=tmp_path / "search.db", ranker_settings=settings) as search:
        ask(search, 8)
        with search.history() as history:
            rows = list(history.db["decisions"].rows)
    assert [row["ranker"] for row in rows] == ["random"] * 2 + ["server"] * 6

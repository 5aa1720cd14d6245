"""Make an embedded ranker: landscapes, tasks, arrays, training, GGUF, and back through llama.cpp."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from ncode_search.agent.errors import InputError, SearchFailedError  # noqa: E402
from ncode_search.agent.ranking.embedded_file import read_embedded  # noqa: E402
from ncode_search.agent.ranking.vector_session import VectorSession, VectorSettings  # noqa: E402
from ncode_search.agent.space import SearchSpace  # noqa: E402
from ncode_search.agent.tuning import arrays, landscapes, scratch  # noqa: E402
from ncode_search.agent.tuning.embedded_gguf import export, load_checkpoint  # noqa: E402
from ncode_search.agent.tuning.network import BINS, RankerNetwork, Shape, log_bins, soft_targets  # noqa: E402
from ncode_search.agent.tuning.tasks import Measured, draw_task  # noqa: E402

SMALL = Shape(width=32, layers=2, heads=1, hidden=32)


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for module in (arrays, scratch):
        monkeypatch.setattr(module, "LENGTHS", (5, 12))
    monkeypatch.setattr(arrays, "BATCH", 4)
    folder = tmp_path / "data"
    folder.mkdir()
    for number in range(2):
        assert arrays.write_shard(folder, number, 7, [])
    return folder


def settings(steps: int) -> scratch.TrainingSettings:
    return scratch.TrainingSettings(steps=steps, warmup=1, decay=0.0, threads=1, shape=SMALL, report_every=1)


def test_every_landscape_gives_finite_scores() -> None:
    for seed in range(60):
        rng = np.random.default_rng(seed)
        landscape = landscapes.draw(rng)
        codes = rng.integers(0, np.array(landscape.sizes), size=(200, len(landscape.sizes))).astype(np.uint8)
        values = landscape.score(codes)
        assert np.isfinite(values).all(), seed
        np.testing.assert_allclose(values[:50], landscape.score(codes[:50]), atol=1e-9, err_msg=str(seed))
        assert len(landscape.ordered) == len(landscape.sizes)


def test_inactive_digits_change_neither_scores_nor_failures() -> None:
    drawn = [(seed, landscapes.draw(np.random.default_rng(seed))) for seed in range(400)]
    conditional = [(seed, one) for seed, one in drawn if one.conditions]
    assert 0.08 < len(conditional) / len(drawn) < 0.2
    assert any(landscape.failing for _, landscape in conditional)
    for seed, landscape in conditional:
        rng = np.random.default_rng(seed)
        codes, others = rng.integers(0, np.array(landscape.sizes), size=(2, 300, len(landscape.sizes)), dtype=np.uint8)
        closed = _closed(codes, landscape.conditions)
        assert 0 < closed.sum() < closed.size
        changed = np.where(closed, others, codes)
        np.testing.assert_allclose(landscape.score(changed), landscape.score(codes), atol=1e-9, err_msg=str(seed))
        if landscape.failing:
            np.testing.assert_array_equal(landscape.failing(changed), landscape.failing(codes))


def _closed(codes: np.ndarray, conditions: tuple[landscapes.Condition, ...]) -> np.ndarray:
    """Which digits are inactive, code by code, shape ``(n, L)``; a gate that is inactive counts as its option 0."""
    closed = np.zeros(codes.shape, dtype=bool)
    for code, row in zip(codes, closed, strict=True):
        for one in conditions:
            if one.closes[0 if row[one.gate] else code[one.gate]]:
                row[list(one.gated)] = True
    return closed


def test_an_active_digit_matters() -> None:
    gate = landscapes.Condition(0, np.array([True, False]), (1,))
    codes = np.array([[0, 1], [0, 0], [1, 1], [1, 0]], dtype=np.uint8)
    np.testing.assert_array_equal(landscapes.active(codes, [gate]), [[0, 0], [0, 0], [1, 1], [1, 0]])


@pytest.mark.parametrize(("slope", "noisier"), [(-0.7, "bad"), (0.7, "good"), (0.0, "neither")])
def test_measurements_are_as_noisy_as_the_score_says(slope: float, noisier: str) -> None:
    landscape = landscapes.Landscape(
        (2, 50), (False, False), lambda codes: np.where(codes[:, 0] > 0, 2.0, -2.0), landscapes.Noise(0.1, slope)
    )
    space = SearchSpace({"a": ["0", "1"], "b": [str(one) for one in range(50)]})
    codes = np.repeat(np.array([[0, 1], [1, 1]], dtype=np.uint8), 4000, axis=0)
    measured, _ = Measured(landscape, space, np.random.default_rng(0)).measure(codes)
    bad, good = measured[:4000].std(), measured[4000:].std()
    np.testing.assert_allclose([bad, good], 0.1 * np.exp([-2 * slope, 2 * slope]), rtol=0.1)
    assert noisier == ("neither" if abs(np.log(bad / good)) < 0.1 else "bad" if bad > good else "good")


def test_landscapes_have_every_kind_of_noise() -> None:
    drawn = [landscapes.draw(np.random.default_rng(seed)).noise for seed in range(200)]
    kinds = [(one.level > 0, float(np.sign(one.slope))) for one in drawn]
    assert set(kinds) == {(False, 0.0), (True, 0.0), (True, -1.0), (True, 1.0)}
    assert max(float(one(np.array([-9.0, 9.0])).max()) for one in drawn) <= 1


@pytest.mark.parametrize("length", [1, 10, 50])
def test_tasks(length: int) -> None:
    task = draw_task(length, [], 0.0, np.random.default_rng(length))
    trials, queries = len(task.trials.scores), len(task.targets)
    assert trials <= length
    assert task.codes.shape == (trials + queries, len(task.sizes))
    assert np.isfinite(task.reading.facts).all()
    history = {code.tobytes() for code in task.codes[:trials]}
    assert not history & {code.tobytes() for code in task.codes[trials:]}, "queries are new"


def test_a_seed_gives_the_same_shard_and_none_is_made_twice(data: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    again.mkdir()
    assert arrays.write_shard(again, 0, 7, [])
    assert (again / "00000.npz").read_bytes() == (data / "00000.npz").read_bytes()
    assert not arrays.write_shard(data, 0, 8, [])


def test_data_of_other_landscapes_are_not_added_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "LENGTHS", (5,))
    (tmp_path / arrays.ABOUT).write_text(json.dumps({"seed": 0, "tables": []}))  # as version 1 wrote it
    with pytest.raises(InputError, match="another ncode-search"):
        arrays.write_shards(tmp_path, 1, 0, [])
    assert not list(tmp_path.glob("*.npz"))


def test_soft_targets_keep_the_mean() -> None:
    scores = torch.tensor([-3.9, -1.0, 0.03, 2.2])
    width = 8 / BINS
    middle = torch.arange(BINS) * width - 4 + width / 2
    torch.testing.assert_close(soft_targets(scores) @ middle, scores, atol=1e-5, rtol=0)


def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(data: Path, tmp_path: Path) -> None:
    whole = scratch.train(data, tmp_path / "whole", settings(6)).state_dict()
    scratch.train(data, tmp_path / "parts", settings(3))
    parts = scratch.train(data, tmp_path / "parts", settings(6)).state_dict()
    for name, weights in whole.items():
        torch.testing.assert_close(parts[name], weights, atol=0, rtol=0)
    lines = [json.loads(line) for line in (tmp_path / "whole" / scratch.LOG).read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]


def test_ctrl_c_writes_a_checkpoint_from_which_the_same_command_goes_on(data: Path, tmp_path: Path) -> None:
    def interrupt(_: RankerNetwork) -> dict[str, float]:
        signal.raise_signal(signal.SIGINT)
        return {}

    handler = signal.getsignal(signal.SIGINT)
    often, run = replace(settings(6), save_every=0.0), tmp_path / "run"
    with pytest.raises(SearchFailedError, match="stopped after step 2 of 6; the same command goes on"):
        scratch.train(data, run, often, interrupt)
    assert signal.getsignal(signal.SIGINT) is handler
    assert load_checkpoint(run / scratch.CHECKPOINT)[1]["steps"] == 2
    parts = scratch.train(data, run, settings(6)).state_dict()
    for name, weights in scratch.train(data, tmp_path / "whole", settings(6)).state_dict().items():
        torch.testing.assert_close(parts[name], weights, atol=0, rtol=0)


def test_another_training_is_left_alone(data: Path, tmp_path: Path) -> None:
    scratch.train(data, run := tmp_path / "run", settings(2))
    found = (run / scratch.CHECKPOINT).read_bytes()
    others = shutil.copytree(data, tmp_path / "others")
    (others / arrays.ABOUT).write_text('{"seed": 3}')
    for folder, other, what in (
        (data, replace(settings(3), shape=Shape.of(64, 2)), "shape"),
        (data, replace(settings(3), seed=1), "seed"),
        (others, settings(3), "data"),
    ):
        with pytest.raises(InputError, match=f"holds a training of another {what}"):
            scratch.train(folder, run, other)
    assert (run / scratch.CHECKPOINT).read_bytes() == found


@pytest.mark.parametrize("content", [b"", b"nothing", b"PK\x03\x04"])
def test_damaged_files_are_one_clear_error(data: Path, tmp_path: Path, content: bytes) -> None:
    (run := tmp_path / "run").mkdir()
    (run / scratch.CHECKPOINT).write_bytes(content)
    with pytest.raises(InputError, match="or a damaged one"):
        scratch.train(data, run, settings(1))
    with pytest.raises(InputError, match="or a damaged one"):
        export(str(run), tmp_path / "out.gguf")
    (data / "00000.npz").write_bytes(content)
    with pytest.raises(InputError, match=r"00000.npz is damaged .*: delete it and make it again"):
        arrays.read_shard(data / "00000.npz")
    (data / arrays.ABOUT).write_bytes(content or b"{")
    with pytest.raises(InputError, match="made.json is damaged"):
        arrays.write_shards(data, 1, 0, [])


def test_a_checkpoint_of_another_kind_is_one_clear_error(data: Path, tmp_path: Path) -> None:
    (run := tmp_path / "run").mkdir()
    torch.save({"identity": {}, "answers": {}, "done": 3}, run / scratch.CHECKPOINT)  # as the fine-tuning writes it
    with pytest.raises(InputError, match="no checkpoint of an embedded ranker"):
        scratch.train(data, run, settings(1))


def test_an_untrained_model_is_the_mixture_of_the_surrogates_and_learns(data: Path, tmp_path: Path) -> None:
    scratch.train(data, tmp_path / "run", settings(60))
    lines = [json.loads(line) for line in (tmp_path / "run" / scratch.LOG).read_text().splitlines()]
    assert abs(lines[0]["gain"]) < 1e-3
    assert np.mean([line["gain"] for line in lines[-8:]]) > 0.05


@pytest.mark.parametrize(("kind", "limit"), [("F32", 0.02), ("F16", 0.02), ("Q8_0", 0.3)])
def test_llama_cpp_computes_what_pytorch_does(data: Path, tmp_path: Path, kind: str, limit: float) -> None:
    scratch.train(data, tmp_path / "run", settings(40))
    out = tmp_path / "run.gguf"
    export(str(tmp_path / "run"), out, kind)
    network, about = load_checkpoint(tmp_path / "run" / scratch.CHECKPOINT)
    made = read_embedded(out)
    assert made.about == json.loads(json.dumps(about))
    assert about["steps"] == 40
    batch = arrays.read_shard(data / "00001.npz")[1]
    inputs, mask = scratch.model_inputs(batch, np.random.default_rng(0))
    most, count = batch.trial_facts.shape[1], int(batch.trials[0])
    with torch.no_grad():
        wanted = network.outputs(torch.from_numpy(inputs[:1]), most, torch.from_numpy(mask[:1]))[0].numpy()
    vectors = made.enter(inputs[0].astype(np.float64))
    with VectorSession(out, VectorSettings(threads=1)) as session:
        found = session.outputs(vectors[:count], vectors[most:])
    assert np.abs(wanted).max() > 0.3
    np.testing.assert_allclose(found, wanted, atol=limit)


def test_candidates_see_the_history_and_not_each_other() -> None:
    torch.manual_seed(0)
    network = RankerNetwork(SMALL)
    torch.nn.init.normal_(network.head.weight)
    inputs, mask = torch.randn(1, 9, network.enter.in_features), torch.ones(1, 4, dtype=torch.bool)
    plain = network.outputs(inputs, 4, mask)
    changed = inputs.clone()
    changed[0, 8] += 1
    torch.testing.assert_close(network.outputs(changed, 4, mask)[0, :4], plain[0, :4])
    changed[0, 0] += 1
    assert (network.outputs(changed, 4, mask)[0, :4] - plain[0, :4]).abs().min() > 0
    flat = log_bins(torch.zeros(1, 5, 96), torch.zeros(1, 5, 3), torch.ones(1, 5, 3))
    torch.testing.assert_close(flat.exp().sum(-1), torch.ones(1, 5))


def test_wrong_input(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no training data"):
        scratch.train(tmp_path, tmp_path / "run", settings(1))
    assert not (tmp_path / "run").exists()
    for wrong in ({"rate": float("nan")}, {"rate": float("inf")}, {"seed": -1}, {"threads": 0}):
        with pytest.raises(InputError, match="rate above 0|seed from 0, threads from 1"):
            replace(settings(1), **wrong)
    with pytest.raises(InputError, match="layers is 0"):
        Shape.of(32, 0)
    with pytest.raises(InputError, match="multiples of 32"):
        Shape.of(100, 2)
    (tmp_path / scratch.CHECKPOINT).write_bytes(b"nothing")
    with pytest.raises(InputError, match="no checkpoint of an embedded ranker"):
        export(str(tmp_path), tmp_path / "out.gguf")
    assert not list(tmp_path.glob("*.gguf"))


def test_places_that_cannot_be_written_are_one_clear_error(data: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file cannot be made"):
        scratch.train(data, tmp_path / "file", settings(1))
    scratch.train(data, tmp_path / "run", settings(1))
    with pytest.raises(InputError, match="is a folder: name a file"):
        export(str(tmp_path / "run"), tmp_path)
    with pytest.raises(InputError, match="^--quantize Q4_K_M needs rows of a multiple of 256"):
        export(str(tmp_path / "run"), tmp_path / "out.gguf", "Q4_K_M")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "file", "run"]


@pytest.mark.slow
def test_by_commands(tmp_path: Path) -> None:
    def ncode(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "ncode_search.agent", *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=110, check=False)

    made = ncode("ranker", "data", "tasks", "--format", "arrays", "--samples", "10", "--jobs", "1")
    assert (made.returncode, made.stdout, made.stderr) == (0, "tasks: 304 tasks\n", "")
    refused = ncode("ranker", "data", "tasks", "--format", "arrays", "--samples", "10", "--seed", "1")
    assert refused.returncode == 2
    assert "tasks holds data of seed 0" in refused.stderr
    digits = np.ndindex(4, 4, 4)
    table = "\n".join(["code,accuracy", *(f"{a}{b}{c},{a * b - c}" for a, b, c in digits)])
    (tmp_path / "table.csv").write_text(table)
    trained = ncode(
        "ranker", "train", "scratch", "tasks", "run", "--steps", "2", "--width", "32", "--layers", "1",
        "--threads", "1", "--validate", "table.csv:accuracy", "--search-trials", "12", "--search-seeds", "1",
    )  # fmt: skip
    assert trained.returncode == 0, trained.stderr
    assert "run/best.pt: the checkpoint that searched best" in trained.stdout
    assert trained.stderr == "", "64 codes are too few for a history of 100, and that is no trouble"
    assert '"search_surrogates"' in (tmp_path / "run" / scratch.LOG).read_text()
    best = ncode("ranker", "export", "run/best.pt", "best.gguf", "--quantize", "F32")
    assert best.returncode == 0, best.stderr
    exported = ncode("ranker", "export", "run", "run.gguf", "--quantize", "Q8_0")
    assert (exported.returncode, exported.stdout) == (0, "run.gguf: 0.0 MB, Q8_0\n"), exported.stderr
    judged = ncode(
        "bench", "--table", "table.csv", "--metric", "accuracy", "--rankers", "run.gguf,pick", "--trials", "12",
        "--seeds", "2", "--jobs", "1",
    )  # fmt: skip
    assert judged.returncode == 0, judged.stderr

"""Checkpoints come back as they were, hold nothing that could run, and are whole or not there."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ncode_search.evaluators import checkpoints
from ncode_search.evaluators.base import Context
from ncode_search.evaluators.checkpoints import save_state


def load_state(path: Path) -> Any:
    """Untyped, as a test that has just written a state knows what is in it."""
    return checkpoints.load_state(path)


def test_an_optimizer_comes_back_as_it_was(tmp_path: Path) -> None:
    weight = torch.nn.Parameter(torch.randn(3, 2))
    optimizer = torch.optim.AdamW([weight], 0.1)
    weight.square().sum().backward()
    optimizer.step()
    save_state(tmp_path / "state", optimizer.state_dict())
    loaded = load_state(tmp_path / "state")
    kept = optimizer.state_dict()
    assert loaded is not None
    assert loaded["param_groups"] == kept["param_groups"]
    assert list(loaded["state"]) == [0]
    for name, tensor in kept["state"][0].items():
        assert torch.equal(loaded["state"][0][name], tensor)
        assert loaded["state"][0][name].dtype == tensor.dtype
    torch.optim.AdamW([weight], 0.1).load_state_dict(loaded)


STATES: dict[str, Any] = {
    "plain": {"epoch": 3, "best": 0.25, "name": "a", "flag": True, "none": None, "inf": math.inf},
    "nested": {"a": {"1": [1, 2.5, ("x",)], 1: []}, "b": {}},
    "numpy number": {"x": np.float64(0.5), "n": np.int64(7)},
}


@pytest.mark.parametrize("name", STATES)
def test_plain_states_come_back(tmp_path: Path, name: str) -> None:
    save_state(tmp_path / "state", STATES[name])
    assert load_state(tmp_path / "state") == STATES[name]


def test_arrays_keep_their_shapes_and_types_beside_tensors(tmp_path: Path) -> None:
    array = np.arange(12, dtype=np.int16).reshape(3, 4)[:, ::2]
    state: dict[str, Any] = {"a": array, "scalar": np.array(2.0), "empty": np.empty((0, 3))}
    state["t"] = torch.ones(2, dtype=torch.bfloat16)
    save_state(tmp_path / "both", state)
    save_state(tmp_path / "arrays", {name: value for name, value in state.items() if name != "t"})
    for loaded in (load_state(tmp_path / "both"), load_state(tmp_path / "arrays")):
        for key in ("a", "scalar", "empty"):
            assert isinstance(loaded[key], np.ndarray)
            assert (loaded[key].dtype, loaded[key].shape) == (state[key].dtype, state[key].shape)
            np.testing.assert_array_equal(loaded[key], state[key])
    assert torch.equal(load_state(tmp_path / "both")["t"], state["t"])


def test_tied_weights_and_views_are_kept(tmp_path: Path) -> None:
    base = torch.arange(6.0)
    save_state(tmp_path / "state", {"first": base, "again": base, "part": base[2:4], "across": base.view(2, 3).T})
    loaded = load_state(tmp_path / "state")
    assert torch.equal(loaded["first"], base)
    assert torch.equal(loaded["again"], base)
    assert torch.equal(loaded["part"], base[2:4])
    assert torch.equal(loaded["across"], base.view(2, 3).T)


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ({"a": [1, {2}]}, r"state\['a'\]\[1\] is a set"),
        ({"a": print}, r"state\['a'\] is a builtin_function_or_method"),
        ({1.5: 1}, r"state has the key 1.5"),
    ],
)
def test_what_cannot_be_kept_is_named_and_the_old_state_stays(tmp_path: Path, state: Any, said: str) -> None:
    save_state(tmp_path / "state", {"epoch": 1})
    with pytest.raises(TypeError, match=said):
        save_state(tmp_path / "state", state)
    assert load_state(tmp_path / "state") == {"epoch": 1}


def test_no_file_and_a_damaged_one_are_no_state(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert load_state(tmp_path / "none") is None
    (tmp_path / "damaged").write_bytes(os.urandom(1000))
    assert load_state(tmp_path / "damaged") is None
    assert "damaged" in capsys.readouterr().err


WRITER = """
import sys, torch
from pathlib import Path
from ncode_search.evaluators.checkpoints import save_state
step = 0
while True:
    step += 1
    save_state(Path(sys.argv[1]), {"step": step, "weights": torch.full((500_000,), float(step))})
    if step == 3:
        print("writing", flush=True)
"""


def test_a_kill_leaves_a_whole_state(tmp_path: Path) -> None:
    path = tmp_path / "state"
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE)
    assert writer.stdout is not None
    writer.stdout.readline()
    writer.kill()
    writer.communicate()
    loaded = load_state(path)
    assert loaded["step"] >= 3
    assert (loaded["weights"] == loaded["step"]).all()


def test_a_context_keeps_one_state_in_its_trials_directory(make_context: Callable[..., Context]) -> None:
    context = make_context()
    assert context.restore() is None
    assert not context.trial_folder.exists(), "asking for a state makes no folder"
    context.checkpoint({"epoch": 1})
    context.checkpoint({"epoch": 2})
    assert context.restore() == {"epoch": 2}
    assert [file.name for file in context.directory.iterdir()] == ["checkpoint.safetensors"]

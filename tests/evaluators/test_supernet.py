"""The supernet: one path at a time, weights shared with nobody but the same choice, and gates for all that has any."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ncode_search.evaluators.base import Context, EvaluatorError
from ncode_search.evaluators.cnn import CnnEvaluator
from ncode_search.evaluators.cnn_network import Network
from ncode_search.evaluators.cnn_space import Architecture
from ncode_search.evaluators.supernet import PENALTY, SuperCell, Supernet

OPTIONS = ["none", "skip", "conv1x1", "pool"]
SPACE = {"stem.width": [4, 8], "cell.0-1": OPTIONS, "cell.0-2": OPTIONS, "cell.1-2": OPTIONS, "stage2.cells": [1]}
CONFIG = {"stem.width": 4, "cell.0-1": "none", "cell.0-2": "none", "cell.1-2": "none", "stage2.cells": 1}


def _supernet(seed: int = 0) -> Supernet:
    torch.manual_seed(0)
    return Supernet(SPACE, CONFIG, channels=1, classes=3, seed=seed)


def test_every_pass_is_one_path_and_all_paths_come_up() -> None:
    supernet, images = _supernet().eval(), torch.zeros(1, 1, 4, 4)
    paths = []
    for _ in range(200):
        supernet(images)
        paths.append(tuple(supernet.path.digits))
    counts = [Counter(path[edge] for path in paths) for edge in range(3)]
    assert all(set(count) == set(range(4)) and min(count.values()) > 25 for count in counts)
    again = _supernet().eval()
    again(images)
    assert tuple(again.path.digits) == paths[0]


def test_only_the_path_learns() -> None:
    supernet = _supernet()
    supernet(torch.randn(4, 1, 8, 8)).sum().backward()
    chosen = supernet.path.digits
    for cell in (one for one in supernet.modules() if isinstance(one, SuperCell)):
        for edge in range(3):
            for digit, option in enumerate(cell.options_of(edge)):
                has_learned = [parameter.grad is not None for parameter in option.parameters()]
                assert not any(has_learned) or digit == chosen[edge]


def test_a_path_is_the_network_of_its_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the gates out of the way, and the weights of the chosen operations, the logits are the same."""
    supernet = _supernet().eval()
    monkeypatch.setattr(supernet.path, "draw", lambda: None)
    supernet.path.digits = [2, 1, 3]
    names = [OPTIONS[digit] for digit in supernet.path.digits]
    config = {**CONFIG, "cell.0-1": names[0], "cell.0-2": names[1], "cell.1-2": names[2]}
    network = Network(Architecture.from_config(config), channels=1, classes=3).eval()
    shared = dict(supernet.network.named_parameters())
    for name, parameter in network.named_parameters():
        parts = name.split(".")
        if "operations" in parts:
            edge = int(parts[3])
            name = ".".join(
                ["body", parts[1], "options", str(edge), str(supernet.path.digits[edge]), "operation", *parts[4:]]
            )
        parameter.data.copy_(shared[name].data)
    for cell in (one for one in supernet.modules() if isinstance(one, SuperCell)):
        for edge in range(3):
            for option in cell.options_of(edge):
                option.gate = torch.nn.Identity()
    images = torch.randn(5, 1, 8, 8)
    torch.testing.assert_close(supernet(images), network(images))


def test_gates_are_of_every_cell_and_none_has_none() -> None:
    supernet = _supernet()
    gates = supernet.gates()
    assert list(gates) == ["cell.0-1", "cell.0-2", "cell.1-2"]
    weights = supernet.state_dict()
    for options in gates.values():
        assert [len(names) for names in options] == [0, 2, 2, 2]
        assert {tuple(weights[name].shape) for names in options for name in names} == {(4,), (8,)}
    assert supernet.penalty().item() == pytest.approx(PENALTY * 3 * 3 * (4 + 8), rel=1e-5)


def test_is_trained_the_same_for_a_seed(tmp_path: Path, make_context: Callable[..., Context]) -> None:
    evaluator = CnnEvaluator(folder=tmp_path, epochs=7)
    first, second = (evaluator.supernet(SPACE, CONFIG, 1, make_context()).state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    other = evaluator.supernet(SPACE, CONFIG, 1, make_context(seed=1)).state_dict()
    assert any(not torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize("change", [{"cell": False}, {"stage1.cells": 0}])
def test_refuses_what_has_no_cells(change: dict[str, Any]) -> None:
    space = {"stem.width": [4]} if "cell" in change else SPACE
    config = {**CONFIG, "stage2.cells": 0, **change}
    with pytest.raises(
        EvaluatorError, match=r"\[space\] has no cells with edges to choose; a supernet is of positions"
    ):
        Supernet(space, config, channels=1, classes=3, seed=0)

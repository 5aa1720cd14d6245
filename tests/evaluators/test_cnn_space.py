"""Which spaces a CNN accepts, and what a configuration means."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from ncode_search.evaluators.base import EvaluatorError
from ncode_search.evaluators.cnn_layers import ACTIVATIONS, NORMS, OPERATIONS, Bottleneck, Style
from ncode_search.evaluators.cnn_network import Cell, Network
from ncode_search.evaluators.cnn_space import Architecture, BottleneckStage, Stage, check_space


def test_accepts_every_kind_of_position() -> None:
    check_space(
        {
            "stem.width": [1, 1024],
            "stem.kernel": [1, 15],
            "cell.0-1": list(OPERATIONS),
            "cell.8-9": ["none"],
            "stage1.cells": [0, 8],
            "stage4.width": [7],
            "norm": list(NORMS),
            "activation": list(ACTIVATIONS),
            "head.pool": ["avg", "max"],
            "head.dropout": [0, 0.5],
        }
    )


@pytest.mark.parametrize(
    ("name", "option", "allowed"),
    [
        ("stem.width", 0, "an integer from 1 to 1024"),
        ("stem.width", 8.0, "an integer from 1 to 1024"),
        ("stem.width", True, "an integer from 1 to 1024"),
        ("stem.width", "8", "an integer from 1 to 1024"),
        ("stem.kernel", 4, "an odd integer from 1 to 15"),
        ("cell.0-1", "conv4x4", "none, skip, pool, maxpool, conv1x1, conv3x3"),
        ("cell.0-1", 3, "none, skip"),
        ("stage1.cells", -1, "an integer from 0 to 8"),
        ("stage2.width", -8, "an integer from 1 to 1024"),
        ("norm", "batchnorm", "none, batch, group, layer"),
        ("norm", ["batch"], "none, batch, group, layer"),
        ("activation", "swish", "relu, leaky_relu, elu, gelu, silu, tanh"),
        ("head.pool", "sum", "avg, max"),
        ("head.dropout", 1.0, "a number from 0 to below 1"),
        ("head.dropout", False, "a number from 0 to below 1"),
    ],
)
def test_refuses_an_option(name: str, option: Any, allowed: str) -> None:
    with pytest.raises(EvaluatorError) as error:
        check_space({"stem.width": [8], name: [option]})
    assert str(error.value).startswith(f'[space] "{name}": a CNN cannot have the option {option!r}; allowed: {allowed}')


@pytest.mark.parametrize(
    "name", ["width", "cell.1-0", "cell.0-0", "cell.0-10", "cell.a-b", "stage0.cells", "stage5.cells", "stemXwidth"]
)
def test_refuses_a_position(name: str) -> None:
    with pytest.raises(EvaluatorError) as error:
        check_space({name: [1]})
    assert str(error.value).startswith(
        f'[space] "{name}": a CNN has no such position; it has: stem.width; stem.kernel;'
    )
    assert "\n" not in str(error.value)


def test_says_where_the_first_width_is() -> None:
    with pytest.raises(EvaluatorError, match=r"the first stage has the width of the stem: stem\.width"):
        check_space({"stage1.width": [8]})


def test_defaults() -> None:
    architecture = Architecture.from_config({})
    assert architecture.stages == (Stage(16, 1),)
    assert architecture.edges == {(0, 1): "conv3x3"}
    assert architecture.style == Style("batch", "relu")
    assert (architecture.stem_kernel, architecture.head_pool, architecture.head_dropout) == (3, "avg", 0)


def test_widths_double_unless_they_are_named() -> None:
    architecture = Architecture.from_config({"stem.width": 4, "stage2.width": 5, "stage3.cells": 0})
    assert architecture.stages == (Stage(4, 1), Stage(5, 1), Stage(10, 0))


def test_a_cell_is_the_graph_that_its_edges_say() -> None:
    edges = {"cell.1-2": "skip", "cell.0-1": "skip", "cell.0-2": "pool", "cell.0-3": "skip", "cell.2-3": "skip"}
    cell = Cell(2, Architecture.from_config(edges))
    x = torch.randn(3, 2, 5, 5)
    pool = torch.nn.functional.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)
    torch.testing.assert_close(cell(x), x + (x + pool))


def test_a_cell_without_a_path_is_zero() -> None:
    cell = Cell(2, Architecture.from_config({"cell.0-1": "conv3x3", "cell.1-2": "none"}))
    assert not cell(torch.randn(3, 2, 5, 5)).any()


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("size", [1, 2, 7])
def test_operations_keep_the_shape(operation: str, size: int) -> None:
    x = torch.randn(2, 6, size, size)
    assert OPERATIONS[operation](6, Style("group", "gelu"))(x).shape == x.shape


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("width", [1, 3, 8])
def test_any_style_fits_any_width(norm: str, activation: str, width: int) -> None:
    config = {"stem.width": width, "norm": norm, "activation": activation, "stage2.cells": 2, "head.pool": "max"}
    network = Network(Architecture.from_config(config), channels=3, classes=4)
    logits = network(torch.randn(5, 3, 9, 9))
    assert logits.shape == (5, 4)
    assert logits.isfinite().all()


def test_a_stage_that_names_a_kernel_is_one_of_bottlenecks() -> None:
    config = {"stem.width": 8, "cell.0-1": "skip", "stage2.kernel": 5, "stage2.se": 0.25, "stage3.depth": 2}
    stages = Architecture.from_config(config).stages
    assert stages == (Stage(8, 1), BottleneckStage(16, 1, 5, 4, 0.25), BottleneckStage(32, 2, 3, 4, 0))


def test_a_network_of_bottlenecks_is_the_one_of_mobilenet() -> None:
    config = {"stem.width": 8, "stage1.depth": 2, "stage1.se": 0.5, "stage2.kernel": 5, "stage2.expansion": 1}
    network = Network(Architecture.from_config(config), channels=1, classes=3).eval()
    x = torch.randn(2, 1, 9, 9)
    assert network(x).shape == (2, 3)
    first, second, last = (block for block in network.body if isinstance(block, Bottleneck))
    assert [block.has_skip for block in (first, second, last)] == [True, True, False]
    assert network.body(x).shape == (2, 16, 5, 5)
    # Widened four times, convolved by channel, squeezed to half of the block's width, narrowed.
    shapes = [tuple(one.weight.shape) for one in first.modules() if isinstance(one, torch.nn.Conv2d)]
    assert shapes == [(32, 8, 1, 1), (32, 1, 3, 3), (4, 32, 1, 1), (32, 4, 1, 1), (8, 32, 1, 1)]
    assert isinstance(list(first.layers)[-1], torch.nn.BatchNorm2d)
    shapes = [tuple(one.weight.shape) for one in last.modules() if isinstance(one, torch.nn.Conv2d)]
    assert shapes == [(8, 1, 5, 5), (16, 8, 1, 1)]
    y = network.body[0](x)
    torch.testing.assert_close(first(y), y + first.layers(y))


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"stage2.kernel": [3], "stage2.cells": [1]}, '"stage2.cells": the stage is one of bottlenecks'),
        ({"stage1.depth": [1], "cell.0-1": ["skip"]}, '"cell.0-1": no stage has cells'),
        ({"stage1.se": [2]}, '"stage1.se": a CNN cannot have the option 2; allowed: a number from 0 to 1'),
        ({"stage1.depth": [0]}, '"stage1.depth": a CNN cannot have the option 0; allowed: an integer from 1 to 8'),
        ({"learning_rate": [0]}, '"learning_rate": a CNN cannot have the option 0; allowed: a positive number'),
        ({"optimizer": ["adam"]}, "\"optimizer\": a CNN cannot have the option 'adam'; allowed: adamw, sgd"),
    ],
)
def test_refuses_what_does_not_go_together(space: dict[str, list[Any]], message: str) -> None:
    with pytest.raises(EvaluatorError) as error:
        check_space(space)
    assert str(error.value).startswith(f"[space] {message}")
    assert "\n" not in str(error.value)

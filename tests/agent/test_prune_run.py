"""``ncode prune``: the new file is the old one without what was dropped, and wrong input is one line."""

import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from ncode_search.agent.errors import InputError
from ncode_search.agent.pruned_file import pruned_text
from ncode_search.agent.pruned_space import prune
from ncode_search.agent.search_file import SearchFile, load_space

TOML = """# A search of mine.

[search]
history = "mine.db"   # kept
trials = 3

[space]
# The cell.
"cell.0-1" = [
    "none",      # nothing
    "skip",
    "conv1x1",   # small
    "conv3x3",
]
cell.0-2 = ["none", "skip", "conv1x1", "conv3x3"]
"cell.1-2" = ["none", "skip", "conv1x1", "conv3x3"]
stem.width = [4, 8]   # channels
"stem.kernel" = { options = [1, 3], when = { "cell.0-1" = ["none", "conv3x3"] } }
"head.dropout" = { options = [0.0, 0.5], when = { "cell.0-2" = ["none"], stem.width = [8] } }

[equal]
cells = [{ edges = { "cell.0-1" = [0, 1], cell.0-2 = [0, 2], "cell.1-2" = [1, 2] }, none = "none", skip = "skip" }]

[costs.weights]   # in thousands
options."cell.0-1" = [0, 0, 1, 9]
options."stem.width" = [1, 2]
pairs = [{ positions = ["cell.1-2", "stem.width"], costs = [[0, 0], [0, 0], [1, 2], [9, 18]] }]
most = 40

[[forbidden]]     # too small
"cell.0-1" = ["none", "conv1x1"]
stem.width = 8

[[forbidden]]
cell.1-2 = "none"

[evaluator]
kind = "cnn"
epochs = 1
"""
EDGES = ("cell.0-1", "cell.0-2", "cell.1-2")


def test_all_that_a_file_declares_is_pruned_and_its_comments_stay(tmp_path: Path) -> None:
    # No [equal] beside conditions on its edges: see below.
    path = tmp_path / "mine.toml"
    path.write_text("\n".join(line for line in TOML.splitlines() if not line.startswith(("[equal]", "cells"))))
    pruned = prune(load_space(path), {name: [0, 1, 2, 3] for name in EDGES}, 2)
    text = pruned_text(path, pruned, "new.db")
    (tmp_path / "new.toml").write_text(text)
    assert load_space(tmp_path / "new.toml") == pruned.space
    for line in (
        "# A search of mine.",
        'history = "new.db"   # kept',
        "# The cell.",
        'cell.0-2 = ["conv1x1", "conv3x3"]',
        '"stem.kernel" = { options = [1, 3], when = { "cell.0-1" = ["conv3x3"] } }',
        '"head.dropout" = [0.0]',
        'options."cell.0-1" = [1, 9]',
        'pairs = [{ positions = ["cell.1-2", "stem.width"], costs = [[1, 2], [9, 18]] }]',
        '"cell.0-1" = ["conv1x1"]',
    ):
        assert line in text.splitlines()
    assert text.count("[[forbidden]]") == 1


@pytest.mark.parametrize(
    ("scores", "left"), [([3, 0, 2, 1], ' none = "none"'), ([0, 3, 2, 1], ' skip = "skip" }]'), ([0, 1, 3, 2], "] } ")]
)
def test_a_cell_forgets_its_special_options(tmp_path: Path, scores: list[int], left: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("\n".join(line for line in TOML.splitlines() if "when = " not in line))
    text = pruned_text(path, prune(load_space(path), dict.fromkeys(EDGES, scores), 2), "new.db")
    cells = next(line for line in text.splitlines() if line.startswith("cells"))
    assert left in cells
    assert ("none" in cells) == (scores[0] == 3)
    assert ("skip" in cells) == (scores[1] == 3)


def test_every_example_with_cells_can_be_pruned(tmp_path: Path) -> None:
    examples = Path(__file__).parents[2] / "examples"
    for path in (examples / "digits_cnn.toml", examples / "tables" / "digits_cnn.toml"):
        space = load_space(path)
        edges = {name: list(range(len(options))) for name, options in space.positions.items() if "cell." in name}
        (tmp_path / "new.toml").write_text(pruned_text(path, prune(space, edges, 0.6), "new.db"))
        assert SearchFile.load(tmp_path / "new.toml").space.size < space.size


SMALL = """
[search]
history = "small.db"
[space]
"cell.0-1" = ["none", "skip", "conv1x1"]   # an edge
"stem.width" = [2, 4]
[equal]
cells = [{ edges = { "cell.0-1" = [0, 1] }, none = "none", skip = "skip" }]
[evaluator]
kind = "cnn"
batch_size = 128
"""


def ncode(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ncode_search.agent", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=100, check=False)


@pytest.mark.slow
def test_a_supernet_is_trained_and_saved_and_the_new_file_runs(tmp_path: Path) -> None:
    (tmp_path / "small.toml").write_text(SMALL)
    done = ncode(tmp_path, "prune", "small.toml", "--supernet-epochs", "1", "--keep", "2")
    assert (done.returncode, done.stderr) == (0, "")
    assert "That is hardly better than chance" in done.stdout
    assert "supernet of cell.0-1: 1 epochs, random paths name" in done.stdout
    assert "the rest stood at stem.width = 4" in done.stdout
    assert "drops none 0 (no weights)" in done.stdout
    assert "small_pruned.toml: 4 of 6 codes" in done.stdout
    assert '"cell.0-1" = ["skip", "conv1x1"]   # an edge' in (tmp_path / "small_pruned.toml").read_text()
    weights = load_file(tmp_path / "small_pruned.safetensors")
    assert weights["network.body.1.options.0.2.operation.0.weight"].shape == (4, 4, 1, 1)
    assert ncode(tmp_path, "space", "small_pruned.toml").returncode == 0
    assert {path.name for path in tmp_path.iterdir()} == {"small.toml", "small_pruned.toml", "small_pruned.safetensors"}

    again = ncode(tmp_path, "prune", "small.toml")
    assert again.returncode == 2
    assert again.stderr == "ncode: small_pruned.toml: is there already; name another with -o, or remove it\n"
    (tmp_path / "small_pruned.toml").unlink()
    again = ncode(tmp_path, "prune", "small.toml")
    assert again.stderr == "ncode: small_pruned.safetensors: is there already; name another with -o, or remove it\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        ((), ["--supernet-epochs", "0"], "--supernet-epochs is 0; allowed: whole numbers from 1"),
        ((), ["--keep", "0"], "keep is 0; allowed: a number of options from 1, or a share above 0.0 and up to 1.0"),
        ((), ["--keep", "most"], "--keep is 'most'; give a number of options, or a share such as 0.5"),
        ((), ["-o", "new.json"], "new.json: a search file is a .toml; name it so"),
        ((), ["-o", "no/new.toml"], "no/new.toml: there is no folder no; make it first"),
        (('"cnn"\nbatch_size = 128', '"python"\nfunction = "math:sqrt"'), [], 'kind = "python" has no supernet'),
        (('"cell.0-1" = ["none", "skip", "conv1x1"]', '"norm" = ["none"]'), [], "has no cells with edges to choose"),
        (("batch_size = 128", "learning_rate = 1e30"), [], "the training loss is"),
    ],
)
def test_wrong_input_is_one_line_and_writes_nothing(
    tmp_path: Path, change: tuple[str, ...], arguments: list[str], message: str
) -> None:
    text = SMALL.replace(*change) if change else SMALL
    if '"norm"' in text:
        text = "\n".join(line for line in text.splitlines() if not line.startswith(("[equal]", "cells")))
    (tmp_path / "small.toml").write_text(text)
    done = ncode(tmp_path, "prune", "small.toml", "--supernet-epochs", "1", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert {path.name for path in tmp_path.iterdir()} == {"small.toml"}


def test_a_file_that_cannot_be_rewritten_is_refused(tmp_path: Path) -> None:
    (tmp_path / "small.toml").write_text(SMALL)
    pruned = prune(load_space(tmp_path / "small.toml"), {"cell.0-1": [0, 1, 2]}, 2)
    (tmp_path / "other.toml").write_text(SMALL.replace("[2, 4]", "[2, 8]"))
    with pytest.raises(InputError, match="declared in a way that cannot be rewritten"):
        pruned_text(tmp_path / "other.toml", pruned, "new.db")

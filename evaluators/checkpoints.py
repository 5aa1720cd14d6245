"""States of trainings as safetensors files: nothing in them can run, and a kill leaves the old file or the new one.

The tensors stand in the file under numbers; the nest of dicts and lists around them stands in its header as JSON.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

State = Mapping[str, Any]
"""Nested dicts (keys: text or whole numbers), lists and tuples of tensors, NumPy arrays, numbers, text, booleans and
None.
"""

_STRUCTURE, _FRAMEWORK = "structure", "framework"


def save_state(path: Path, state: State) -> None:
    """Write `state` in place of what was at `path`, on disk when this returns.

    Raises `TypeError` for what cannot be kept; the file is as before then.
    """
    tensors: dict[str, Any] = {}
    structure = json.dumps(_packed(state, tensors, "state"))
    written = path.with_name(f"{path.name}.tmp")
    _save(tensors, written, structure)
    with written.open("rb") as file:
        os.fsync(file.fileno())
    written.replace(path)


def load_state(path: Path) -> dict[str, Any] | None:
    """What `save_state` wrote, tensors on the CPU; None where there is no file, or a damaged one."""
    from safetensors import SafetensorError, safe_open

    if not path.exists():
        return None
    try:
        with safe_open(path, framework="np") as file:
            header = file.metadata()
        with safe_open(path, framework=header[_FRAMEWORK]) as file:
            unpacked: dict[str, Any] = _unpacked(json.loads(header[_STRUCTURE]), file.get_tensor)
    except SafetensorError as error:
        print(f"{path} is damaged ({error}); the trial starts anew", file=sys.stderr)
        return None
    return unpacked


def _packed(value: Any, tensors: dict[str, Any], where: str) -> Any:
    """JSON of a value, with a list of one word and the content for what JSON does not tell apart."""
    if isinstance(value, Mapping):
        return ["dict", [[_key(key, where), _packed(one, tensors, f"{where}[{key!r}]")] for key, one in value.items()]]
    if isinstance(value, (list, tuple)):
        word = "list" if isinstance(value, list) else "tuple"
        return [word, [_packed(one, tensors, f"{where}[{index}]") for index, one in enumerate(value)]]
    if isinstance(value, np.ndarray) or _is_tensor(value):
        name = str(len(tensors))
        tensors[name] = value
        return ["array" if isinstance(value, np.ndarray) else "tensor", name]
    value = value.item() if isinstance(value, np.generic) else value
    if value is None or type(value) in (bool, int, float, str):
        return value
    raise TypeError(f"{where} is a {type(value).__name__}; a checkpoint holds tensors, numbers, text, dicts and lists")


def _key(key: Any, where: str) -> str | int:
    if type(key) in (str, int):
        return key  # type: ignore[no-any-return]
    raise TypeError(f"{where} has the key {key!r}; the keys of a checkpoint are text or whole numbers")


def _unpacked(value: Any, tensor: Any) -> Any:
    if not isinstance(value, list):
        return value
    word, content = value
    if word == "dict":
        return {key: _unpacked(one, tensor) for key, one in content}
    if word in ("list", "tuple"):
        items = [_unpacked(one, tensor) for one in content]
        return items if word == "list" else tuple(items)
    found = tensor(content)
    return np.asarray(found) if word == "array" else found


def _is_tensor(value: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def _save(tensors: Mapping[str, Any], path: Path, structure: str) -> None:
    if any(map(_is_tensor, tensors.values())):
        from safetensors.torch import save_file

        save_file(_apart(tensors), path, {_STRUCTURE: structure, _FRAMEWORK: "pt"})
    else:
        from safetensors.numpy import save_file as save_arrays

        arrays = {name: np.asarray(array, order="C") for name, array in tensors.items()}
        save_arrays(arrays, path, {_STRUCTURE: structure, _FRAMEWORK: "np"})


def _apart(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """Contiguous tensors on the CPU of which no two share memory, as tied weights do: the format has no such thing."""
    import torch

    used: set[int] = set()
    apart = {}
    for name, value in tensors.items():
        tensor = torch.from_numpy(value) if isinstance(value, np.ndarray) else value.detach()
        tensor = tensor.to("cpu").contiguous()
        place = tensor.untyped_storage().data_ptr()
        apart[name] = tensor.clone() if place in used else tensor
        used.add(place)
    return apart

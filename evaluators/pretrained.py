"""Pretrained models of Hugging Face's, read once a worker, and a copy of one with adapters for every trial.

All copies share the frozen weights: a trial costs the memory of what it trains. What is trained as a whole, the head
and whatever the checkpoint has no weights for, is a trial's own, and starts from the trial's seed where it is new.
"""

from __future__ import annotations

import contextlib
import copy
import importlib.util
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from logging import ERROR, getLogger
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import torch
import transformers
from huggingface_hub.errors import LocalEntryNotFoundError
from peft import get_peft_model
from torch import nn
from transformers import AutoConfig, AutoTokenizer, BitsAndBytesConfig
from transformers.image_processing_base import ImageProcessingMixin

from ncode_search.evaluators.base import EvaluatorError
from ncode_search.evaluators.lora_space import Targets, body_name, find_targets, lora_config
from ncode_search.evaluators.options import require, user_path

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
QUANTIZATIONS = ("none", "8bit", "4bit")

_HUB_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")
_FILE_NAME = re.compile(r"\.(gguf|ggml|safetensors|bin|pt|pth|ckpt|onnx|h5|json|zip|tar|gz)$", re.IGNORECASE)
"""What a name on the hub does not end in."""


@dataclass(frozen=True)
class Pretrained:
    """A model whose weights stay as they are."""

    model: Any
    """A `PreTrainedModel`."""
    targets: Targets
    """Its modules that can have adapters."""
    fully: tuple[str, ...]
    """Its modules that are trained as a whole."""
    fresh: tuple[str, ...]
    """Those that the checkpoint has no weights for."""

    def adapted(self, config: Mapping[str, Any], device: str) -> Any:
        """A model on `device` with the adapters of `config`; random numbers come from torch's global generator."""
        if str(self.model.device) != str(torch.device(device)):
            self.model.to(device)
        model = self._copy()
        for name in self.fresh:
            _reset(model.get_submodule(name))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # PEFT asks transformers for attributes by their old names
            return get_peft_model(model, lora_config(config, self.targets, self.fully))

    def _copy(self) -> Any:
        inside = tuple(f"{name}." for name in self.fully)
        frozen = [weight for name, weight in self.model.named_parameters() if not name.startswith(inside)]
        frozen += [weight for module in self.model.modules() for weight in _quantized_parts(module)]
        # Buffers are copied: batch normalisation changes its statistics in training.
        return copy.deepcopy(self.model, {id(weight): weight for weight in frozen})


def _quantized_parts(module: nn.Module) -> list[Any]:
    """What a linear layer of bitsandbytes' keeps beside its parameters: weights in 8 bits, and scales."""
    state = getattr(module, "state", None)
    held = (getattr(state, "CB", None), getattr(state, "SCB", None), getattr(module, "quant_state", None))
    return [part for part in held if part is not None]


def load_pretrained(
    auto: Any, source: str, folder: Path, *, precision: str, quantization: str, train_head: bool, **settings: Any
) -> Pretrained:
    """Read a model.

    Args:
        auto: A class such as `transformers.AutoModelForCausalLM`.
        source: A checkpoint's folder, relative to `folder`, or a name on the Hugging Face hub.
        precision: A key of `PRECISIONS`: what the frozen weights are kept in, and what is computed with.
        quantization: One of `QUANTIZATIONS`.
        train_head: Whether what stands on top of the model's body is trained as a whole.
        settings: What the model's configuration is to say, such as ``num_labels``.

    Raises:
        EvaluatorError: for what is no model, not of that kind, or lacks weights; and for a quantization without
            bitsandbytes.
    """
    _check_quantization(quantization)
    quiet_transformers()
    where = model_path(source, folder)
    try:
        config = AutoConfig.from_pretrained(where, **settings)
        heads = _heads(auto, config) if train_head else []
        model, report = auto.from_pretrained(
            where,
            config=config,
            dtype=PRECISIONS[precision],
            ignore_mismatched_sizes=train_head,
            output_loading_info=True,
            **_quantized(quantization, precision, heads),
        )
    except Exception as error:  # transformers and its readers have no common one
        raise _not_loaded(source, folder, auto, error) from error
    fresh = _modules_without_weights(report, model, source, heads)
    fully = (*heads, *(name for name in fresh if not name.startswith(tuple(heads))))
    _make_trainable(model, fully)
    return _with_possible_targets(Pretrained(model, find_targets(model), fully, fresh))


def _with_possible_targets(base: Pretrained) -> Pretrained:
    """Without the modules that PEFT refuses adapters for, such as Mamba's ``out_proj``."""
    targets = base.targets
    if _can_adapt(base, targets.names):
        return base
    names = {name for name in targets.names if _can_adapt(base, [name])}
    if not names:
        raise EvaluatorError(
            f"[evaluator] model: PEFT has no adapters for {', '.join(targets.names)} of a "
            f"{type(base.model).__name__}; give another model"
        )
    return replace(base, targets=replace(targets, modules=tuple(one for one in targets.modules if one.name in names)))


def _can_adapt(base: Pretrained, names: list[str]) -> bool:
    try:
        base.adapted({"rank": 1, "targets": names}, str(base.model.device))
    except Exception:  # of whatever kind: each of PEFT's layers has its own
        return False
    return True


def _make_trainable(model: Any, fully: Iterable[str]) -> None:
    """Freeze all weights; those that copies will train get the digits that small steps need."""
    model.requires_grad_(False)
    for name in fully:
        model.get_submodule(name).float()
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            # In evaluation bitsandbytes repacks 4-bit weights for a kernel without gradients, and leaves them so.
            module.support_avx512bf16_for_cpu = False


def load_tokenizer(source: str, folder: Path) -> Any:
    """The tokenizer that belongs to a model; raises `EvaluatorError` where there is none."""
    quiet_transformers()
    where = model_path(source, folder)
    try:
        return AutoTokenizer.from_pretrained(where)
    except Exception as error:  # transformers and its readers have no common one
        raise _not_loaded(source, folder, AutoTokenizer, error) from error


def padding_of(tokenizer: Any, rows: Iterable[Sequence[int]] = ()) -> int:
    """The token that fills up shorter rows; where the tokenizer has none for it nor for the end, one that none of the
    `rows` holds: masks leave it out, but classifiers of causal models take the last other token for the end of a row.
    """
    known = (tokenizer.pad_token_id, tokenizer.eos_token_id)
    if known != (None, None):
        return next(int(token) for token in known if token is not None)
    held = {token for row in rows for token in row}
    return next((token for token in range(len(tokenizer)) if token not in held), 0)


def image_scale(source: str, folder: Path) -> tuple[Sequence[float], Sequence[float]]:
    """Mean and standard deviation of pixels from 0 to 1 as the model knows them; ImageNet's where it says none."""
    quiet_transformers()
    where = model_path(source, folder)
    said: dict[str, Any] = {}
    with contextlib.suppress(OSError):
        said, _ = ImageProcessingMixin.get_image_processor_dict(where)
    return said.get("image_mean", (0.485, 0.456, 0.406)), said.get("image_std", (0.229, 0.224, 0.225))


def check_length(key: str, tokens: int, model: Any) -> None:
    """Refuse the value of a key where it is more `tokens` than `model` has positions for; raises `EvaluatorError`."""
    most = getattr(model.config, "max_position_embeddings", None)
    require(most is None or tokens <= most, key, tokens, f"at most {most}, the positions of the model")


def model_path(source: str, folder: Path) -> str:
    """The folder of a checkpoint, or `source` where it can be a name on the hub.

    Raises `EvaluatorError`, before the hub is asked, for what can only be meant as a path.
    """
    path = _local(source, folder)
    if path.is_dir():
        return str(path)
    if path.exists() or _is_path(source, path):
        what = "is a file, not a folder" if path.exists() else "does not exist"
        raise EvaluatorError(f'[evaluator] model = "{source}": {path} {what}; give the folder of a checkpoint')
    return source


def _local(source: str, folder: Path) -> Path:
    return user_path(source, folder)


def _is_path(source: str, path: Path) -> bool:
    """Whether what does not exist is no name of a model on the hub, which has one slash at most."""
    is_in_a_folder = "/" in source and path.parent.is_dir()
    return not _HUB_NAME.fullmatch(source) or bool(_FILE_NAME.search(source)) or is_in_a_folder


def quiet_transformers() -> None:
    """No progress bars, no reports of what was loaded."""
    logging: Any = transformers.utils.logging
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    getLogger("huggingface_hub").setLevel(ERROR)  # it tells of every retry


def _heads(auto: Any, config: Any) -> list[str]:
    """Names of the children that stand on top of the model's body and have weights."""
    with torch.device("meta"):
        model = auto.from_config(config)
    children = {name: child for name, child in model.named_children() if name != body_name(model)}
    return [name for name, child in children.items() if any(True for _ in child.parameters())]


def _quantized(quantization: str, precision: str, heads: list[str]) -> dict[str, Any]:
    if quantization == "none":
        return {}
    make: Any = BitsAndBytesConfig
    config = make(
        load_in_4bit=quantization == "4bit",
        load_in_8bit=quantization == "8bit",
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=PRECISIONS[precision],
        llm_int8_skip_modules=heads or None,
    )
    # A worker sees the one GPU that it may use, or none.
    return {"quantization_config": config, "device_map": {"": "cuda:0" if torch.cuda.is_available() else "cpu"}}


def _check_quantization(quantization: str) -> None:
    if quantization != "none" and importlib.util.find_spec("bitsandbytes") is None:
        raise EvaluatorError(
            f'[evaluator] quantization = "{quantization}": bitsandbytes is not installed; '
            "pip install 'ncode-search[quantized]', or leave it out"
        )


def _modules_without_weights(report: Any, model: Any, source: str, heads: Iterable[str]) -> tuple[str, ...]:
    mismatched = [entry[0] if isinstance(entry, tuple) else entry for entry in report["mismatched_keys"]]
    names = sorted({key.rpartition(".")[0] for key in [*report["missing_keys"], *mismatched]})
    inside = [name for name in names if not name.startswith(tuple(heads)) and re.search(r"\.\d+(\.|$)", name)]
    if inside or (names and not heads):
        raise EvaluatorError(
            f'[evaluator] model = "{source}": the checkpoint lacks weights of {(inside or names)[0]} for a '
            f"{type(model).__name__}; give a checkpoint of that kind"
        )
    return tuple(names)


def _reset(module: nn.Module) -> None:
    for part in module.modules():
        if callable(reset := getattr(part, "reset_parameters", None)):
            reset()


def _not_loaded(source: str, folder: Path, auto: Any, error: Exception) -> EvaluatorError:
    where = f'[evaluator] model = "{source}"'
    if _is_unreachable(error):
        hub = "is switched off (HF_HUB_OFFLINE)" if huggingface_hub.constants.HF_HUB_OFFLINE else "cannot be reached"
        return EvaluatorError(
            f"{where}: there is no folder {_local(source, folder)}, the Hugging Face hub {hub}, and its cache does not "
            "have the model; give the folder of a checkpoint"
        )
    reason = " ".join(str(error).split())
    short = reason if len(reason) <= 200 else f"{reason[:200]}..."
    return EvaluatorError(
        f"{where} cannot be loaded by {auto.__name__} ({short}); give the folder of such a "
        "checkpoint, or its name on the Hugging Face hub"
    )


def _is_unreachable(error: BaseException | None) -> bool:
    """Whether an error comes of a file that is not in the hub's cache and could not be asked for."""
    while error is not None and not isinstance(error, LocalEntryNotFoundError):
        error = error.__cause__ or error.__context__
    return error is not None

"""What a space may say of adapters, and that the adapters are what a configuration says."""

from __future__ import annotations

import math
import socket
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSemanticSegmentation,
    AutoModelForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    SwinConfig,
    SwinModel,
)

from ncode_search.evaluators.base import EvaluatorError
from ncode_search.evaluators.lora_space import MOST_RANK, NoAdapterError, check_space, find_targets, lora_config
from ncode_search.evaluators.pretrained import Pretrained, image_scale, load_pretrained, load_tokenizer, model_path

from .tiny_models import write_another_decoder, write_encoder, write_segmenter, write_upernet

BERT = [
    *(f"attention.self.{name}" for name in ("query", "key", "value")),
    "attention.output.dense",
    "intermediate.dense",
    "output.dense",
]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Pretrained:
    folder = tmp_path_factory.mktemp("encoder")
    write_encoder(folder)
    return _load(AutoModelForSequenceClassification, folder)


def _load(auto: Any, folder: Path, train_head: bool = True) -> Pretrained:
    return load_pretrained(auto, ".", folder, precision="float32", quantization="none", train_head=train_head)


def _adapters(base: Pretrained, **config: Any) -> dict[str, tuple[int, float]]:
    """Rank and scale of every module with an adapter, by layer and name."""
    model = base.adapted({key.replace("__", "."): value for key, value in config.items()}, "cpu")
    found = {name: module for name, module in model.named_modules() if hasattr(module, "lora_A")}
    prefix = "base_model.model.bert.encoder.layer."
    return {
        name.removeprefix(prefix): (module.r["default"], module.scaling["default"]) for name, module in found.items()
    }


def _refused(base: Pretrained, space: dict[str, list[Any]]) -> str:
    with pytest.raises(EvaluatorError) as error:
        check_space(space, base.targets)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_the_modules_of_a_model(base: Pretrained) -> None:
    assert base.targets.names == BERT
    assert base.targets.layers == 2
    assert (base.fully, base.fresh) == (("classifier",), ("classifier",))


def test_the_layers_of_models_with_stages(tmp_path: Path) -> None:
    model = _load(AutoModelForSemanticSegmentation, write_segmenter(tmp_path))
    assert model.targets.layers == 2
    assert model.targets.names == [*(f"attention.{name}_proj" for name in "qkvo"), "mlp.fc1", "mlp.fc2"]
    assert model.fully == ("decode_head",)
    swin = SwinModel(SwinConfig(image_size=32, embed_dim=8, depths=[2, 1], num_heads=[1, 1], window_size=4))
    assert find_targets(swin).layers == 3


def test_a_model_that_names_no_body(tmp_path: Path) -> None:
    write_upernet(tmp_path)
    model = _load(AutoModelForSemanticSegmentation, tmp_path)
    assert model.fully == ("decode_head", "auxiliary_head")
    assert all(module.path.startswith("backbone.") for module in model.targets.modules)


def test_gpt2_weights_are_transposed() -> None:
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=11, n_embd=8, n_layer=2, n_head=2, n_positions=16))
    targets = find_targets(model)
    assert targets.transposed
    assert targets.names == ["attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"]
    adapted = Pretrained(model, targets, (), ()).adapted({"targets": "c_attn", "rank": 2}, "cpu")
    trained = sum(weight.numel() for weight in adapted.parameters() if weight.requires_grad)
    assert trained == 2 * 2 * (8 + 24)


def test_modules_that_peft_refuses_are_not_offered(tmp_path: Path) -> None:
    write_another_decoder(tmp_path, "mamba")
    model = _load(AutoModelForCausalLM, tmp_path, train_head=False)
    assert model.targets.names == [f"mixer.{name}_proj" for name in ("in", "x", "dt")]
    assert _refused(model, {"target.out_proj": [True]}).endswith(
        "the model has no such module in its layers; it has mixer.in_proj, mixer.x_proj, mixer.dt_proj"
    )
    assert model.adapted({"targets": "all"}, "cpu") is not None


def test_a_model_of_which_peft_refuses_every_module_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise NotImplementedError("no such layer")

    write_encoder(tmp_path)
    monkeypatch.setattr("ncode_search.evaluators.pretrained.get_peft_model", refuse)
    with pytest.raises(EvaluatorError, match="PEFT has no adapters for attention.self.query, .* give another model"):
        _load(AutoModelForSequenceClassification, tmp_path)


def test_a_model_without_layers_is_refused() -> None:
    class Flat(nn.Module):
        base_model_prefix = ""

    with pytest.raises(EvaluatorError, match="a Flat has no numbered layers of linear modules"):
        find_targets(Flat())


def test_the_defaults(base: Pretrained) -> None:
    assert _adapters(base) == {f"{layer}.{name}": (8, 2.0) for layer in (0, 1) for name in BERT}


@pytest.mark.parametrize("targets", ["query+value", ["query", "value"], "attention.self.query+value"])
def test_targets(base: Pretrained, targets: Any) -> None:
    assert set(_adapters(base, targets=targets)) == {
        f"{layer}.attention.self.{name}" for layer in (0, 1) for name in ("query", "value")
    }


def test_a_whole_name_means_one_module_and_an_end_all_that_have_it(base: Pretrained) -> None:
    assert set(_adapters(base, targets="output.dense", layers=[0])) == {"0.output.dense"}
    assert len(_adapters(base, targets="dense", layers=[0])) == 3


def test_switches_of_modules(base: Pretrained) -> None:
    config = {"target__query": True, "target__value": False, "target__intermediate.dense": True}
    assert set(_adapters(base, **config, layers="last-1")) == {"1.attention.self.query", "1.intermediate.dense"}


@pytest.mark.parametrize(
    ("layers", "chosen"), [("all", "01"), ("first-1", "0"), ("last-1", "1"), ("every-2", "0"), ([1], "1")]
)
def test_layers(base: Pretrained, layers: Any, chosen: str) -> None:
    assert {name[0] for name in _adapters(base, layers=layers)} == set(chosen)


def test_ranks_of_layers(base: Pretrained) -> None:
    config = {"layer__0__rank": 2, "targets": "query"}
    assert _adapters(base, **config) == {"0.attention.self.query": (2, 2.0), "1.attention.self.query": (8, 2.0)}
    assert _adapters(base, **config, alpha=4) == {
        "0.attention.self.query": (2, 2.0),
        "1.attention.self.query": (8, 0.5),
    }
    assert set(_adapters(base, layer__0__rank=0, targets="query")) == {"1.attention.self.query"}


def test_rank_stabilised_scales_and_weight_decomposition(base: Pretrained) -> None:
    assert _adapters(base, targets="query", layers=[0], rslora=True, rank=4, alpha=6) == {
        "0.attention.self.query": (4, 6 / math.sqrt(4))
    }
    model = base.adapted({"dora": True, "targets": "query"}, "cpu")
    assert any("lora_magnitude_vector" in name for name, _ in model.named_parameters())


def test_new_heads_start_from_the_seed(base: Pretrained) -> None:
    heads = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        model = base.adapted({}, "cpu")
        heads.append(next(w for name, w in model.named_parameters() if name.endswith("default.weight")).clone())
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])


def test_no_adapter_at_all(base: Pretrained) -> None:
    with pytest.raises(NoAdapterError):
        lora_config({"layer.0.rank": 0, "layer.1.rank": 0}, base.targets, ())


@pytest.mark.parametrize(
    ("position", "option"),
    [
        ("rank", 0), ("rank", MOST_RANK + 1), ("rank", True), ("rank", 4.0), ("alpha", 0), ("alpha", math.inf),
        ("dropout", 1), ("targets", "q_proj"), ("targets", "query+"), ("targets", []), ("targets", [1]),
        ("target.query", 1), ("layers", "first-3"), ("layers", "first-0"), ("layers", "middle"), ("layers", [2]),
        ("layers", []), ("layers", [True]), ("layer.0.rank", -1), ("learning_rate", 0), ("weight_decay", -1),
        ("rslora", "yes"), ("dora", 1),
    ],
)  # fmt: skip
def test_refuses_an_option(base: Pretrained, position: str, option: Any) -> None:
    message = _refused(base, {position: [option]})
    assert message.startswith(f'[space] "{position}": a LoRA adapter cannot have the option {option!r}; allowed: ')


def test_refuses_a_position(base: Pretrained) -> None:
    assert _refused(base, {"width": [1]}) == (
        '[space] "width": a LoRA adapter has no such position; it has: rank; alpha; dropout; targets; target.MODULE; '
        "layers; layer.0.rank to layer.1.rank; learning_rate; weight_decay; rslora; dora"
    )
    assert _refused(base, {"layer.2.rank": [1]}).endswith("the model has 2 layers, 0 to 1; name one of them")
    assert _refused(base, {"target.q_proj": [True]}).endswith(
        f"the model has no such module in its layers; it has {', '.join(BERT)}"
    )
    both = _refused(base, {"target.query": [True], "targets": ["all"]})
    assert "leave out either this or targets" in both


def test_names_of_the_hub_are_left_to_transformers(tmp_path: Path) -> None:
    assert model_path("owner/model", tmp_path) == "owner/model"
    (tmp_path / "file.gguf").touch()
    with pytest.raises(EvaluatorError, match="is a file, not a folder; give the folder of a checkpoint"):
        model_path("file.gguf", tmp_path)


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What was looked up; nothing is ever found."""
    asked: list[Any] = []

    def getaddrinfo(host: Any, *_: Any, **__: Any) -> None:
        asked.append(host)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(time, "sleep", lambda _: None)  # between the hub's retries
    return asked


@pytest.mark.parametrize(
    "name",
    [
        *("./nomodel", "../nomodel", ".nomodel", "-nomodel", "owner/.nomodel", "a/b/c", "~/nomodel", "/nomodel"),
        "~nouser",
        *("there/nomodel", "nomodel.gguf", "owner/nomodel.safetensors", "nomodel.TAR"),
    ],
)
def test_what_can_be_no_name_of_the_hub_is_a_folder_that_does_not_exist(
    tmp_path: Path, name: str, no_network: list[Any]
) -> None:
    (tmp_path / "there").mkdir()
    where = tmp_path / (name if name.startswith("~nouser") else Path(name).expanduser())
    for read in (model_path, load_tokenizer, image_scale):
        with pytest.raises(EvaluatorError) as raised:
            read(name, tmp_path)
        said = f'[evaluator] model = "{name}": {where} does not exist; give the folder of a checkpoint'
        assert str(raised.value) == said, "once, and not inside another message"
    assert not no_network


@pytest.mark.parametrize("is_switched_off", [False, True])
def test_a_name_of_the_hub_that_cannot_be_asked_for_is_one_line(
    tmp_path: Path, no_network: list[Any], monkeypatch: pytest.MonkeyPatch, is_switched_off: bool
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", is_switched_off)
    with pytest.raises(EvaluatorError) as raised:
        load_tokenizer("nobody/nomodel", tmp_path)
    hub = "is switched off (HF_HUB_OFFLINE)" if is_switched_off else "cannot be reached"
    assert str(raised.value) == (
        f'[evaluator] model = "nobody/nomodel": there is no folder {tmp_path / "nobody/nomodel"}, the Hugging Face hub '
        f"{hub}, and its cache does not have the model; give the folder of a checkpoint"
    )
    assert bool(no_network) != is_switched_off


@pytest.mark.parametrize("name", ["gpt2", "Qwen/Qwen2.5-0.5B", "owner/model-v1.1", "nobody/nomodel.bin.v2"])
def test_names_with_points_are_names(tmp_path: Path, name: str) -> None:
    assert model_path(name, tmp_path) == name


def test_a_checkpoint_without_its_layers_is_refused(base: Pretrained, tmp_path: Path) -> None:
    base.model.config.save_pretrained(tmp_path)
    base.model.save_pretrained(tmp_path, state_dict={"bert.pooler.dense.bias": torch.zeros(16)})
    with pytest.raises(EvaluatorError, match="the checkpoint lacks weights of bert.encoder.layer.0"):
        _load(AutoModelForSequenceClassification, tmp_path)
    with pytest.raises(EvaluatorError, match="the checkpoint lacks weights of"):
        _load(AutoModelForCausalLM, tmp_path, train_head=False)

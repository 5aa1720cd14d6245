"""The classifier of texts really learns, repeats itself, shares its weights, and refuses what it cannot use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForSequenceClassification

from ncode_search.evaluators.base import Context, DivergedError, EvaluatorError, Pruned
from ncode_search.evaluators.lora_classify import LoraClassifyEvaluator
from ncode_search.evaluators.lora_space import NoAdapterError

from .tiny_models import write_decoder, write_encoder, write_lines, write_roberta, write_texts, write_tokenizer

pytestmark = pytest.mark.usefixtures("frozen_libraries")

MakeContext = Callable[..., Context]
Reports = list[tuple[int, dict[str, float]]]

CONFIG = {"rank": 4, "targets": "query+value", "learning_rate": 0.03}


def _evaluator(folder: Path, **options: Any) -> LoraClassifyEvaluator:
    """A BERT of two layers, on texts of animals and plants."""
    if not (folder / "encoder").exists():
        write_encoder(folder / "encoder")
    small = {
        "model": "encoder",
        "epochs": 2,
        "batch_size": 8,
        "max_tokens": 32,
        "precision": "float32",
        **write_texts(folder),
    }
    return LoraClassifyEvaluator(**{**small, **options}, folder=folder)


def _refused(folder: Path, **options: Any) -> str:
    with pytest.raises(EvaluatorError) as error:
        _evaluator(folder, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_learns_and_reports(tmp_path: Path, make_context: MakeContext, reports: Reports) -> None:
    result = _evaluator(tmp_path, epochs=4)(CONFIG, make_context())
    assert result.value > 0.9
    assert [step for step, _ in reports] == [1, 2, 3, 4]
    losses = [metrics["train_loss"] for _, metrics in reports]
    assert losses[-1] < losses[0] / 2
    assert reports[-1][1]["val_accuracy"] == result.value
    assert set(result.metrics) == {"val_macro_f1", "val_loss", "parameters"}
    # Two modules in two layers, each (16 + 16) * 4 numbers, and the head; the pooler came with the checkpoint.
    assert result.metrics["parameters"] == 2 * 2 * 32 * 4 + 16 * 2 + 2


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_repeats_itself_after_another_trial(
    tmp_path: Path, make_context: MakeContext, reports: Reports, precision: str
) -> None:
    evaluator, config = _evaluator(tmp_path, precision=precision), {**CONFIG, "dropout": 0.3}
    evaluator(config, make_context())
    evaluator({"rank": 2}, make_context(seed=1))
    evaluator(config, make_context())
    evaluator(config, make_context(seed=1))
    assert reports[:2] == reports[4:6]
    assert reports[:2] != reports[6:]


def test_trials_leave_the_pretrained_weights_alone(tmp_path: Path, make_context: MakeContext) -> None:
    evaluator = _evaluator(tmp_path)
    before = {name: weight.clone() for name, weight in evaluator._base.model.state_dict().items()}
    evaluator(CONFIG, make_context())
    after = evaluator._base.model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_copy_shares_all_that_is_frozen(tmp_path: Path) -> None:
    base = _evaluator(tmp_path)._base
    model = base.adapted(CONFIG, "cpu")
    shared = {weight.data_ptr() for weight in base.model.parameters()}
    apart = [name for name, weight in model.named_parameters() if weight.data_ptr() not in shared]
    assert [name for name in apart if "lora_" not in name and "classifier" not in name] == []


@dataclass
class State:
    """As bitsandbytes keeps the weights of a linear layer in 8 bits once it has computed with them."""

    CB: torch.Tensor | None = None
    SCB: torch.Tensor | None = None


def test_a_copy_shares_the_weights_that_a_quantized_layer_keeps_beside_its_parameters(tmp_path: Path) -> None:
    base = _evaluator(tmp_path)._base
    layers = [layer for layer in base.model.modules() if isinstance(layer, torch.nn.Linear)]
    for layer in layers:
        layer.state = State()  # type: ignore[assignment]
    in_8_bits, in_4_bits = layers[0], layers[1]
    in_8_bits.state = State(in_8_bits.weight.to(torch.int8), torch.ones(16))  # type: ignore[assignment]
    in_4_bits.quant_state = State(torch.ones(16))  # type: ignore[assignment]
    copied = [layer for layer in base._copy().modules() if isinstance(layer, torch.nn.Linear)]
    assert copied[0].state.CB is in_8_bits.state.CB
    assert copied[0].state.SCB is in_8_bits.state.SCB
    assert copied[1].quant_state is in_4_bits.quant_state
    assert copied[0].state is not in_8_bits.state, "a layer changes what else it notes there"


def test_a_decoder_classifies_too(tmp_path: Path, make_context: MakeContext) -> None:
    write_decoder(tmp_path / "decoder")
    evaluator = _evaluator(tmp_path, model="decoder", score="macro_f1", epochs=4)
    result = evaluator({"targets": "q_proj+v_proj", "learning_rate": 0.02}, make_context())
    assert result.value > 0.9
    assert "val_accuracy" in result.metrics


def test_a_tokenizer_needs_no_token_for_padding(tmp_path: Path, make_context: MakeContext) -> None:
    write_decoder(tmp_path / "decoder")
    write_tokenizer(tmp_path / "decoder", bos_token="[CLS]")
    rows = [{"text": "the cat is here", "label": "animal"}, {"text": "the oak", "label": "plant"}] * 8
    files = {"train": write_lines(tmp_path / "own.jsonl", rows), "val": "own.jsonl"}
    evaluator = _evaluator(tmp_path, model="decoder", epochs=8, **files)
    assert evaluator({"learning_rate": 0.02}, make_context()).value == 1


@pytest.mark.parametrize(
    ("special", "last"),
    [({"unk_token": "[UNK]"}, "zebra"), ({"bos_token": "[PAD]"}, "[PAD]")],
    ids=["unknown", "first"],
)
def test_no_token_of_a_text_is_taken_for_padding(tmp_path: Path, special: dict[str, str], last: str) -> None:
    """Where the tokenizer has none for it: a decoder classifies by the last token that is another."""
    write_decoder(tmp_path / "decoder")
    write_tokenizer(tmp_path / "decoder", **special)
    rows = [{"text": "the cat", "label": "animal"}, {"text": f"the cat {last}", "label": "plant"}]
    files = {"train": write_lines(tmp_path / "own.jsonl", rows), "val": "own.jsonl"}
    evaluator = _evaluator(tmp_path, model="decoder", **files)
    short, long = evaluator._base.model.eval()(**evaluator._sets["val"].batch([0, 1]).inputs).logits
    assert (short - long).abs().max() > 0.01, "the last word counts"


def test_a_test_set_is_measured(tmp_path: Path, make_context: MakeContext) -> None:
    write_texts(tmp_path)
    result = _evaluator(tmp_path, test="train.jsonl", epochs=1)(CONFIG, make_context())
    assert 0 <= result.metrics["test_accuracy"] <= 1


def test_reads_csv_with_names_of_its_own(tmp_path: Path, make_context: MakeContext) -> None:
    table = "words,kind\n" + "the cat,1\nthe oak,2\n" * 8
    (tmp_path / "own.csv").write_text(table)
    evaluator = _evaluator(tmp_path, train="own.csv", val="own.csv", text="words", label="kind")
    assert evaluator(CONFIG, make_context()).value >= 0.5


def test_accumulation_is_the_same_step(tmp_path: Path, make_context: MakeContext, reports: Reports) -> None:
    _evaluator(tmp_path, batch_size=8)(CONFIG, make_context())
    _evaluator(tmp_path, batch_size=2, accumulation=4)(CONFIG, make_context())
    assert reports[0][1] == pytest.approx(reports[2][1], rel=1e-4)


@pytest.mark.filterwarnings("ignore::FutureWarning")  # PEFT asks transformers by old names
def test_the_adapters_are_kept(tmp_path: Path, make_context: MakeContext) -> None:
    context = make_context()
    result = _evaluator(tmp_path, keep_adapters=True)(CONFIG, context)
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "encoder", num_labels=2)
    loaded = PeftModel.from_pretrained(model, str(context.kept)).eval()
    measured = _evaluator(tmp_path)._judge(loaded, "val", context)
    assert measured["val_loss"] == pytest.approx(result.metrics["val_loss"], rel=1e-5)


def test_stops_within_an_epoch(tmp_path: Path, make_context: MakeContext, reports: Reports) -> None:
    with pytest.raises(Pruned):
        _evaluator(tmp_path)(CONFIG, make_context(stop_asked=lambda: True))
    assert reports == []


def test_gradient_checkpointing_changes_no_number(tmp_path: Path, make_context: MakeContext, reports: Reports) -> None:
    for checkpointing in (False, True):
        _evaluator(tmp_path, gradient_checkpointing=checkpointing)(CONFIG, make_context())
    assert reports[0][1] == pytest.approx(reports[2][1], rel=1e-4)


def test_a_diverging_training_fails_with_a_reason(tmp_path: Path, make_context: MakeContext, reports: Reports) -> None:
    with pytest.raises(DivergedError, match=r"_loss is (nan|inf) in epoch 1; a lower learning_rate may help"):
        _evaluator(tmp_path)({**CONFIG, "learning_rate": 1e30}, make_context())
    assert reports == []


def test_a_configuration_without_adapters_fails(tmp_path: Path, make_context: MakeContext) -> None:
    with pytest.raises(NoAdapterError, match="no module has an adapter"):
        _evaluator(tmp_path)({"target.query": False, "target.value": False}, make_context())


def test_refuses_data_that_is_not_there(tmp_path: Path) -> None:
    assert 'train = "none.csv": cannot read' in _refused(tmp_path, train="none.csv")
    assert f'train = "~nouser/a.csv": cannot read {tmp_path}/~nouser/a.csv' in _refused(tmp_path, train="~nouser/a.csv")
    assert 'val = "val.parquet": its name must end in .csv' in _refused(tmp_path, val="val.parquet")


def test_refuses_an_empty_class(tmp_path: Path) -> None:
    name = write_lines(tmp_path / "one.jsonl", [{"text": "the cat", "label": "animal"}])
    assert "val: no text has the class 'plant'" in _refused(tmp_path, val=name)
    assert "train = one.jsonl: all texts have one class" in _refused(tmp_path, train=name)


def test_refuses_labels_that_are_none(tmp_path: Path) -> None:
    unknown = write_lines(tmp_path / "unknown.jsonl", [{"text": "the cat", "label": "stone"}])
    assert "line 1: no text of train has the class 'stone'; it has animal, plant" in _refused(tmp_path, val=unknown)
    number = write_lines(tmp_path / "number.jsonl", [{"text": "the cat", "label": 0.5}])
    assert "number.jsonl, line 1: label is 0.5; it must be text" in _refused(tmp_path, train=number)
    (tmp_path / "none.csv").write_text("text,label\nthe cat,animal\nthe oak,NaN\n")
    assert "none.csv, line 3: label is NaN, no class; correct or remove the row" in _refused(tmp_path, train="none.csv")
    (tmp_path / "empty.csv").write_text("text,label\nthe cat,animal\nthe oak,\n")
    assert "line 3: label is ''; it must be text that is not empty" in _refused(tmp_path, train="empty.csv")
    nameless = write_lines(tmp_path / "nameless.jsonl", [{"text": "the cat"}])
    assert "line 1: there is no label, only text; name another" in _refused(tmp_path, train=nameless)


def test_refuses_what_is_no_model(tmp_path: Path) -> None:
    assert 'model = "a/b/none"' in (message := _refused(tmp_path, model="a/b/none"))
    assert "does not exist; give the folder of a checkpoint" in message
    (tmp_path / "empty").mkdir()
    assert 'model = "empty" cannot be loaded' in _refused(tmp_path, model="empty")
    (tmp_path / "broken").mkdir()
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "broken" / name).write_bytes((tmp_path / "encoder" / name).read_bytes())
    (tmp_path / "broken" / "model.safetensors").write_bytes(b"no weights")
    message = _refused(tmp_path, model="broken")
    assert 'model = "broken" cannot be loaded by AutoModelForSequenceClassification' in message


def test_refuses_modules_that_the_model_has_not(tmp_path: Path) -> None:
    with pytest.raises(EvaluatorError) as error:
        _evaluator(tmp_path).check_space({"targets": ["query", "q_proj"]})
    assert str(error.value) == (
        '[space] "targets": a LoRA adapter cannot have the option \'q_proj\'; allowed: "all", or modules of the model, '
        'as a list or joined by "+"; this model has attention.self.query, attention.self.key, attention.self.value, '
        "attention.output.dense, intermediate.dense, output.dense"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs = 0: must be at least 1"),
        ({"batch_size": 0}, "batch_size = 0: must be at least 1"),
        ({"accumulation": 0}, "accumulation = 0: must be at least 1"),
        ({"learning_rate": float("inf")}, "learning_rate = inf: must be a positive number"),
        ({"weight_decay": -0.1}, "weight_decay = -0.1: must be zero or a positive number"),
        ({"warmup": 1.5}, "warmup = 1.5: must be from 0 to 1"),
        ({"max_grad_norm": 0.0}, "max_grad_norm = 0.0: must be a positive number"),
        ({"precision": "int8"}, "precision = int8: must be float32 or bfloat16"),
        ({"quantization": "2bit"}, "quantization = 2bit: must be none, 8bit, 4bit"),
        ({"max_tokens": 0}, "max_tokens = 0: must be at least 1"),
        ({"max_tokens": 33}, "max_tokens = 33: must be at most 32, the positions of the model"),
        ({"score": "loss"}, "score = loss: must be accuracy or macro_f1"),
    ],
)
def test_refuses_impossible_options(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    assert _refused(tmp_path, **options) == f"[evaluator] {message}"


def test_refuses_texts_longer_than_the_positions_behind_the_padding_token(
    tmp_path: Path, make_context: MakeContext
) -> None:
    write_roberta(tmp_path / "encoder", positions=34)
    long = [{"text": f"the {kind} " * 20, "label": kind} for kind in ("cat", "oak")]
    options = {"train": write_lines(tmp_path / "long.jsonl", long), "val": "long.jsonl", "epochs": 1}
    assert 0 <= _evaluator(tmp_path, **options, max_tokens=33)({}, make_context()).value <= 1
    message = _refused(tmp_path, **options, max_tokens=34)
    assert message.startswith("[evaluator] max_tokens = 34: the model cannot read so many (")
    assert message.endswith("); lower it")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_uses_the_gpu_that_it_was_given(tmp_path: Path, make_context: MakeContext) -> None:
    torch.cuda.reset_peak_memory_stats()
    assert _evaluator(tmp_path, epochs=4)(CONFIG, make_context(device="cuda:0")).value > 0.9
    assert torch.cuda.max_memory_allocated() > 0

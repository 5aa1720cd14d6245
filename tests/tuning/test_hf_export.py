"""Checkpoints as GGUF: what llama.cpp computes from them is what PyTorch computes."""

import json
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch

from ncode_search.agent.errors import InputError, NcodeError
from ncode_search.agent.ranking.llama_session import LlamaSession, SessionSettings
from ncode_search.agent.tuning import hf_export
from ncode_search.agent.tuning.encoding import Encoder
from ncode_search.agent.tuning.finetune import with_adapters
from ncode_search.agent.tuning.hf_export import export, load_trained
from ncode_search.agent.tuning.hf_model import load_base
from ncode_search.agent.tuning.tune_settings import TuneSettings

PROMPT = "0123|1.0,2210|0.5012,3210|0.0,0122;2233;1012;"
CODES = ["0122", "2233", "1012", "33"]


def in_torch(model, encoder, codes=CODES):
    """Log-likelihoods of the codes after the prompt, without a cache, in 64 bits."""
    model, prompt, found = model.double().eval(), encoder.prompt(PROMPT), []
    for code in codes:
        branch = encoder.candidate(code)
        with torch.inference_mode():
            scores = model(torch.tensor([prompt + branch])).logits[0].log_softmax(dim=1)
        found.append(sum(float(scores[len(prompt) - 1 + at, token]) for at, token in enumerate(branch)))
    return np.array(found)


def in_llama(path, encoder, codes=CODES):
    settings = SessionSettings(threads=1, context=512, extra_buffers=False, exact=True)
    with LlamaSession(path, settings) as session:
        return session.log_likelihoods(encoder.prompt(PROMPT), [encoder.candidate(code) for code in codes])


CHECKPOINTS = {
    "smollm": {},
    "untied": {"tied": False},
    "gpt-2": {"cut": "gpt-2", "begin": True, "template": None},
    "llama3": {
        "cut": "llama-bpe",
        "begin": True,
        "rope_parameters": {
            "rope_type": "llama3",
            "rope_theta": 500000.0,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        },
    },
    "biases": {"attention_bias": True},
}


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_llama_cpp_computes_the_same(tiny_llama, tmp_path, name):
    folder = tiny_llama.save_checkpoint(tmp_path / "checkpoint", **CHECKPOINTS[name])
    if name == "biases":  # they start as zeros
        base = load_base(str(folder))
        for part_name, part in base.model.named_parameters():
            if part_name.endswith(".bias"):
                torch.nn.init.normal_(part)
        base.model.save_pretrained(folder)
    base = load_base(str(folder))
    encoder = Encoder(base.tokenizer, 2048)
    export(str(folder), tmp_path / "a.gguf", "F32")
    assert np.abs(in_llama(tmp_path / "a.gguf", encoder) - in_torch(base.model, encoder)).max() < 1e-3


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_a_gguf_is_read_back_as_it_was(tiny_llama, tmp_path, name):
    folder = tiny_llama.save_checkpoint(tmp_path / "checkpoint", **CHECKPOINTS[name])
    export(str(folder), tmp_path / "a.gguf", "F32")
    before, after = load_base(str(folder)), load_base(str(tmp_path / "a.gguf"))
    texts = [PROMPT, "<|im_start|>system\nIt's 2024 words!\n\n  <|im_end|>", "  0122\t123456"]
    for text in texts:
        assert after.tokenizer(text)["input_ids"] == before.tokenizer(text)["input_ids"]
        assert after.tokenizer.decode(after.tokenizer(text, add_special_tokens=False)["input_ids"]) == text
    assert after.tokenizer.chat_template == before.tokenizer.chat_template
    tokens = torch.tensor([before.tokenizer(PROMPT)["input_ids"]])
    with torch.inference_mode():
        assert torch.allclose(after.model(tokens).logits, before.model(tokens).logits, atol=1e-4)
    # Where it came from makes no difference to what is written.
    export(str(tmp_path / "a.gguf"), tmp_path / "b.gguf", "F32")
    first, second = (gguf.GGUFReader(tmp_path / file).tensors for file in ("a.gguf", "b.gguf"))
    assert all(np.array_equal(one.data, other.data) for one, other in zip(first, second, strict=True))


@pytest.mark.parametrize(("kind", "bound"), [("F16", 0.02), ("BF16", 0.2), ("Q8_0", 0.3)])
def test_quantized_files_are_close(tiny_llama, tmp_path, kind, bound):
    base = load_base(str(tiny_llama.checkpoint))
    encoder = Encoder(base.tokenizer, 2048)
    export(str(tiny_llama.checkpoint), tmp_path / "a.gguf", kind)
    difference = np.abs(in_llama(tmp_path / "a.gguf", encoder) - in_torch(base.model, encoder)).max()
    assert 0 < difference < bound


def test_the_file_says_what_it_is(tiny_llama, tmp_path):
    export(str(tiny_llama.checkpoint), tmp_path / "a.gguf", "Q8_0")
    fields = gguf.GGUFReader(tmp_path / "a.gguf").fields
    assert fields["ncode.protocol"].contents() == "published"
    assert fields["ncode.version"].contents() == 1
    assert json.loads(fields["ncode.about"].contents()) == {"base": str(tiny_llama.checkpoint)}
    assert fields["tokenizer.ggml.pre"].contents() == "smollm"
    assert [path.name for path in tmp_path.iterdir()] == ["a.gguf"]


def test_adapters_are_merged(tiny_llama, tmp_path):
    base = load_base(str(tiny_llama.checkpoint))
    encoder = Encoder(base.tokenizer, 2048)
    plain = in_torch(load_base(str(tiny_llama.checkpoint)).model, encoder)
    tuned = with_adapters(base.model, TuneSettings(lora=4, bf16=False))
    for name, part in tuned.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(part, std=0.1)
    folder = tmp_path / "adapters"
    tuned.save_pretrained(folder)
    (folder / "ncode.json").write_text(json.dumps({"base": str(tiny_llama.checkpoint)}))
    export(str(folder), tmp_path / "a.gguf", "F32")
    wanted = in_torch(tuned, encoder)
    assert np.abs(wanted - plain).max() > 0.1
    assert np.abs(in_llama(tmp_path / "a.gguf", encoder) - wanted).max() < 1e-3


def test_adapters_without_their_base_are_one_clear_error(tmp_path):
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(InputError, match=r"no ncode\.json, which names their base"):
        load_trained(str(tmp_path))


def test_an_unknown_tokenizer_is_one_clear_error(tiny_llama, tmp_path):
    folder = tiny_llama.save_checkpoint(tmp_path / "checkpoint")
    described = json.loads((folder / "tokenizer.json").read_text())
    described["pre_tokenizer"]["pretokenizers"].insert(0, {"type": "Punctuation", "behavior": "Isolated"})
    (folder / "tokenizer.json").write_text(json.dumps(described))
    with pytest.raises(InputError, match=r"convert the model with llama\.cpp's own script"):
        export(str(folder), tmp_path / "a.gguf", "F32")
    assert not (tmp_path / "a.gguf").exists()


def test_a_tokenizer_that_llama_cpp_reads_otherwise_is_found(tiny_llama, tmp_path, monkeypatch):
    monkeypatch.setattr(hf_export, "_llama_tokens", lambda path, text: [0, 1, 2])
    with pytest.raises(NcodeError, match="cuts a prompt otherwise"):
        export(str(tiny_llama.checkpoint), tmp_path / "a.gguf", "F32")
    assert list(Path(tmp_path).iterdir()) == []


@pytest.mark.parametrize("name", ["nowhere/at-all", "nowhere.gguf", "nowhere", "./nowhere/at-all", "a/b/nowhere"])
def test_a_model_that_is_not_there_is_one_clear_error(name, monkeypatch):
    def refuse(*arguments, **options):
        raise OSError("no network in tests")

    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", refuse)
    with pytest.raises(InputError, match="nowhere"):
        load_base(name)


@pytest.mark.slow
def test_smollm2_is_read_and_written(tmp_path):
    base = load_base("smollm2")
    encoder = Encoder(base.tokenizer, 2048)
    export("smollm2", tmp_path / "a.gguf", "F16")
    assert np.abs(in_llama(tmp_path / "a.gguf", encoder) - in_torch(base.model, encoder)).max() < 0.05

"""Fine-tuning of a tiny Llama: what is learned, and that packing, interruptions and adapters keep their promises."""

import copy
import json
import subprocess
import sys

import pytest
import torch

from ncode_search.agent.errors import InputError, SearchFailedError
from ncode_search.agent.tuning import tune_run
from ncode_search.agent.tuning.encoding import Encoded, Encoder, fork, pack, summed_loss
from ncode_search.agent.tuning.finetune import Trainer
from ncode_search.agent.tuning.formats import to_line
from ncode_search.agent.tuning.hf_model import load_base
from ncode_search.agent.tuning.published import Sample, SampleMaker, SampleSettings, Source
from ncode_search.agent.tuning.tune_run import TuneJob, tune
from ncode_search.agent.tuning.tune_settings import TuneSettings

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def base(tiny_llama):
    return load_base(str(tiny_llama.checkpoint))


@pytest.fixture(scope="module")
def samples(table):
    make = SampleMaker(Source.parse(f"{table}:acc"), SampleSettings(history=8, pool=4), seed=0)
    return [make(at) for at in range(24)]


def trainer(base, samples, **settings):
    own = type(base)(copy.deepcopy(base.model), base.tokenizer, base.name)
    arguments = {"batch": 8, "bf16": False, "rate": 1e-3, **settings}
    return Trainer(own, [to_line(sample, "published") for sample in samples], TuneSettings(**arguments))


def weights(trainer):
    return {name: part.detach().clone() for name, part in trainer.trained().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_tokens_are_those_of_the_chat_template_and_the_answer(base, samples):
    encoder = Encoder(base.tokenizer, 2048)
    encoded = encoder(samples[0])
    text = base.tokenizer.decode(encoded.tokens)
    assert (
        text
        == f"<|im_start|>system\n{samples[0].prompt}<|im_end|>\n<|im_start|>assistant\n{samples[0].answer}<|im_end|>"
    )
    assert base.tokenizer.decode(encoded.tokens[encoded.answer :]) == f"{samples[0].answer}<|im_end|>"


def test_a_sample_that_is_too_long_loses_its_worst_trials(base):
    sample = Sample("".join(f"{at:04d}|{1 - at / 50:.2f}," for at in range(50)), "0001;0002;", "0002")
    text = base.tokenizer.decode(Encoder(base.tokenizer, 200)(sample).tokens)
    assert len(Encoder(base.tokenizer, 200)(sample).tokens) <= 200
    assert "0000|1.00," in text
    assert "0049|" not in text
    assert "0001;0002;<|im_end|>" in text
    with pytest.raises(InputError, match="--context 20: the candidates alone"):
        Encoder(base.tokenizer, 20)(sample)


@pytest.mark.slow
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_packing_is_exact(base, samples, attention):
    model, encoder = copy.deepcopy(base.model).double(), Encoder(base.tokenizer, 2048)
    model.set_attn_implementation(attention)
    encoded = [encoder(sample) for sample in samples[:8]]
    rows = pack(encoded, 600)
    assert 1 < len(rows) < 8
    assert max(len(row.tokens) for row in rows) <= 600
    losses = []
    for parts in (rows, pack(encoded, 0)):
        model.zero_grad()
        loss = sum(summed_loss(model, row, CPU) for row in parts)
        loss.backward()
        losses.append((loss.item(), model.model.layers[0].self_attn.q_proj.weight.grad.clone()))
    plain = 0.0
    for sample in encoded:  # and an independent way: every logit, one sample at a time
        logits = model(torch.tensor([sample.tokens])).logits[0].detach().log_softmax(dim=1)
        plain -= sum(float(logits[at - 1, sample.tokens[at]]) for at in range(sample.answer, len(sample.tokens)))
    assert losses[0][0] == pytest.approx(losses[1][0], rel=1e-5)
    assert losses[0][0] == pytest.approx(plain, rel=1e-5)
    assert torch.allclose(losses[0][1], losses[1][1], rtol=1e-4, atol=1e-7)


@pytest.fixture(scope="module")
def forked(table):
    """Three histories of four pools each."""
    make = SampleMaker(Source.parse(f"{table}:acc"), SampleSettings(history=8, pool=4, pools=4), seed=0)
    return [make(at) for at in range(12)]


def test_reading_a_history_once_for_its_pools_is_exact(base, forked):
    model, encoder = copy.deepcopy(base.model).double(), Encoder(base.tokenizer, 2048)
    alike = [encoder(sample) for sample in forked[:4]]
    alike[1] = Encoded(alike[1].tokens[:-2], alike[1].answer)  # answers need not be as long as each other
    rows = fork(alike, 4096)
    assert [len(row.branches) for row in rows] == [4]
    assert rows[0].size < 0.8 * sum(len(sample.tokens) for sample in alike)
    losses = []
    for parts in (rows, pack(alike, 0), fork(alike, rows[0].size - 1)):
        model.zero_grad()
        loss = sum(summed_loss(model, row, CPU) for row in parts)
        loss.backward()
        losses.append((loss.item(), model.model.layers[0].self_attn.k_proj.weight.grad.clone()))
        assert losses[-1][0] == pytest.approx(losses[0][0], rel=1e-5)
        assert torch.allclose(losses[-1][1], losses[0][1], rtol=1e-4, atol=1e-7)


@pytest.mark.slow
def test_samples_with_a_history_in_common_stay_together(base, samples, forked):
    own = trainer(base, forked, batch=4)
    assert [[len(row.branches) for row in own._rows(step)] for step in range(3)] == [[4], [4], [4]]
    whole = trainer(base, forked, batch=4, checkpointing=True)
    assert [step.loss for step in own.run()] == pytest.approx([step.loss for step in whole.run()], rel=1e-4)


@pytest.mark.slow
def test_the_loss_falls(base, samples):
    steps = list(trainer(base, samples[:8], epochs=15).run())
    assert steps[-1].loss < 0.5 * steps[0].loss
    assert [step.number for step in steps] == list(range(1, 16))


@pytest.mark.slow
def test_packing_and_checkpointing_change_only_rounding(base, samples):
    results = []
    for settings in ({"pack": 0}, {"pack": 1000}, {"pack": 1000, "checkpointing": True}):
        own = trainer(base, samples, **settings)
        results.append([step.loss for step in own.run()])
    assert results[1] == pytest.approx(results[0], rel=1e-3)
    assert results[2] == pytest.approx(results[1], rel=1e-4)


@pytest.mark.slow
def test_only_adapters_are_trained(base, samples):
    own = trainer(base, samples, lora=4, bf16=True)
    assert all("lora_" in name for name in own.trained())
    assert all(part.dtype == torch.float32 for part in own.trained().values())
    frozen = {name: part.clone() for name, part in own.plain_model.named_parameters() if not part.requires_grad}
    before = weights(own)
    list(own.run())
    assert not same(before, weights(own))
    assert all(torch.equal(part, frozen[name]) for name, part in own.plain_model.named_parameters() if name in frozen)


@pytest.mark.slow
@pytest.mark.parametrize("lora", [0, 4])
def test_a_resumed_training_gives_the_same_weights(base, samples, lora, tmp_path):
    whole = trainer(base, samples, lora=lora, epochs=2)
    losses = [step.loss for step in whole.run()]
    first = trainer(base, samples, lora=lora, epochs=2)
    steps = first.run()
    for _ in range(4):
        next(steps)
    torch.save(first.state(), tmp_path / "state.pt")
    second = trainer(base, samples, lora=lora, epochs=2)
    second.restore(torch.load(tmp_path / "state.pt", weights_only=True))
    assert [step.loss for step in second.run()] == losses[4:]
    assert same(weights(second), weights(whole))


def test_rates_rise_and_fall():
    settings = TuneSettings()
    rates = [settings.rate_at(step, 100) for step in range(100)]
    assert max(rates) == rates[9] == settings.highest_rate == 1e-5
    assert rates[0] == pytest.approx(1e-6)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[99] < 1e-8
    assert TuneSettings(lora=8).highest_rate > 1e-5


def job(tiny_llama, samples, tmp_path, **options):
    path = tmp_path / "samples.jsonl"
    path.write_text("".join(to_line(sample, "published") for sample in samples))
    settings = TuneSettings(batch=8, bf16=False, rate=1e-3, lora=options.pop("lora", 0))
    return TuneJob(str(tiny_llama.checkpoint), path, tmp_path / options.pop("out", "out"), settings, **options)


@pytest.mark.slow
@pytest.mark.parametrize("lora", [0, 4])
def test_a_stopped_job_goes_on_and_gives_the_same_model(tiny_llama, samples, tmp_path, scalars, lora):
    said: list[str] = []
    whole = job(tiny_llama, samples, tmp_path, lora=lora, out="whole")
    tune(whole, lambda step: None, said.append)
    cut = job(tiny_llama, samples, tmp_path, lora=lora)

    def interrupt(step):
        if step.number == 2:
            import signal

            signal.raise_signal(signal.SIGINT)

    with pytest.raises(SearchFailedError, match="after step 2 of 3; the same command goes on"):
        tune(cut, interrupt, said.append)
    assert (cut.out / "checkpoint.pt").exists()
    steps = []
    tune(cut, lambda step: steps.append(step.number), said.append)
    assert steps == [3]
    file = "adapter_model.safetensors" if lora else "model.safetensors"
    assert (cut.out / file).read_bytes() == (whole.out / file).read_bytes()
    assert not (cut.out / "checkpoint.pt").exists()
    assert scalars(cut.out / "logs", "loss") == scalars(whole.out / "logs", "loss")
    assert [step for step, _ in scalars(cut.out / "logs", "rate")] == [1, 2, 3]
    tune(cut, lambda step: None, said.append)
    assert said[-1].endswith("trained already")


@pytest.mark.slow
def test_another_training_does_not_overwrite(tiny_llama, samples, tmp_path):
    first = job(tiny_llama, samples, tmp_path)
    tune(first, lambda step: None, print)
    with pytest.raises(InputError, match="another training"):
        tune(job(tiny_llama, samples[:8], tmp_path), lambda step: None, print)
    (first.out / "ncode.json").unlink()
    with pytest.raises(InputError, match="holds a model already"):
        tune(first, lambda step: None, print)


def test_a_damaged_checkpoint_is_one_clear_error(tiny_llama, samples, tmp_path):
    own = job(tiny_llama, samples, tmp_path)
    own.out.mkdir()
    (own.out / "checkpoint.pt").write_bytes(b"nonsense")
    with pytest.raises(InputError, match=r"checkpoint\.pt is damaged"):
        tune(own, lambda step: None, print)


def test_a_checkpoint_of_an_embedded_ranker_is_no_damaged_one(tiny_llama, samples, tmp_path):
    own = job(tiny_llama, samples, tmp_path)
    own.out.mkdir()
    torch.save({"network": {}, "optimizer": {}, "step": 3, "shape": {}, "about": {}}, own.out / "checkpoint.pt")
    with pytest.raises(InputError, match="holds another training's checkpoint"):
        tune(own, lambda step: None, print)


def test_data_that_are_no_samples_leave_no_folder(tiny_llama, samples, tmp_path):
    own = job(tiny_llama, samples, tmp_path)
    own.data.write_text("code,acc\n00,1\n")
    with pytest.raises(InputError, match=":1: no sample"):
        tune(own, lambda step: None, print)
    assert not own.out.exists()


@pytest.mark.slow
def test_checkpoints_come_every_few_minutes(tiny_llama, samples, tmp_path, monkeypatch):
    saved = []
    monkeypatch.setattr(tune_run, "_save", lambda *arguments: saved.append(1))
    tune(job(tiny_llama, samples, tmp_path, minutes=0.0), lambda step: None, print)
    assert len(saved) == 3


@pytest.mark.slow
def test_from_samples_to_a_gguf_that_learned(tiny_llama, samples, tmp_path):
    """Data, training, export and answers, as commands."""
    path = tmp_path / "samples.jsonl"
    path.write_text("".join(to_line(sample, "published") for sample in samples))

    def run(*arguments):
        command = [sys.executable, "-m", "ncode_search.agent", "ranker", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    out, model = tmp_path / "out", tmp_path / "a.gguf"
    options = ["--epochs", "40", "--rate", "2e-3", "--fp32", "--threads", "1", "--batch", "8", "--validate"]
    said = run("train", "finetune", tiny_llama.checkpoint, path, out, *options, path)
    assert "before: " in said
    run("export", out, model, "--quantize", "Q8_0")
    in_torch, in_llama = (run("answers", which, path, "--threads", 1) for which in (out, model))
    assert "points, chance 25.0%" in in_llama  # one of a pool of four
    share = float(in_llama.split(": ")[1].split("%")[0])
    assert share > 80  # these samples were learned by heart
    assert abs(share - float(in_torch.split(": ")[1].split("%")[0])) < 10
    assert json.loads((out / "ncode.json").read_text())["answers"]["after"] > 0.8


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"batch": 0}, "--batch 0"),
        ({"lora": -1}, "--lora -1"),
        ({"rate": 2.0}, "--rate 2.0"),
        ({"warmup": 2}, "--warmup"),
    ],
)
def test_settings_are_checked(settings, match):
    with pytest.raises(InputError, match=match):
        TuneSettings(**settings)

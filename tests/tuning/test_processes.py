"""Fine-tuning in two processes: the weights of one process, also when both are stopped and started again."""

import subprocess
import sys
import time

import pytest
from safetensors.torch import load_file

from ncode_search.agent.tuning.formats import to_line
from ncode_search.agent.tuning.published import SampleMaker, SampleSettings, Source
from ncode_search.agent.tuning.tune_run import TuneJob, tune
from ncode_search.agent.tuning.tune_settings import TuneSettings

SETTINGS = TuneSettings(lora=4, batch=10, epochs=4, pack=400, bf16=False, rate=1e-3)
OPTIONS = ["--lora", "4", "--batch", "10", "--epochs", "4", "--pack", "400", "--fp32", "--rate", "1e-3"]


@pytest.fixture
def samples(table, tmp_path):
    """A file with histories of four pools, so that rows are of both kinds."""
    make = SampleMaker(Source.parse(f"{table}:acc"), SampleSettings(history=8, pool=4, pools=4), seed=0)
    path = tmp_path / "samples.jsonl"
    path.write_text("".join(to_line(make(at), "published") for at in range(45)))
    return path


def started(*arguments):
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command = [*launcher, "-m", "ncode_search.agent", "ranker", "train", "finetune", *map(str, arguments), *OPTIONS]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.mark.slow
def test_two_processes_train_what_one_does(tiny_llama, samples, tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    one, two = tmp_path / "one", tmp_path / "two"
    cut = started(tiny_llama.checkpoint, samples, two, "--minutes", "0")
    while not (two / "checkpoint.pt").exists() and cut.poll() is None:
        time.sleep(0.02)
    cut.terminate()  # the launcher tells both
    assert "the same command goes on" in cut.communicate()[0]
    assert cut.returncode != 0
    assert (two / "checkpoint.pt").exists()
    whole = started(tiny_llama.checkpoint, samples, two)
    said = whole.communicate()[0]
    assert whole.returncode == 0, said
    assert said.count("trained; next") == 1
    assert "step 20 of 20" in said
    tune(TuneJob(str(tiny_llama.checkpoint), samples, one, SETTINGS), lambda step: None, print)
    weights = [load_file(folder / "adapter_model.safetensors") for folder in (one, two)]
    assert weights[0].keys() == weights[1].keys()
    for name, part in weights[0].items():
        assert (part - weights[1][name]).abs().max() < 1e-4, name

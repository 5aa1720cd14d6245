"""Which workers run where, what they may use, and what comes of trials that use more.

The GPUs are those that a program ``nvidia-smi`` on the path lists: so are real ones.
"""

import os
import stat
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ncode_search import Search, SearchSpace
from ncode_search.agent.devices import Device, Gpu, assign, available_cores, cpu_memory, gibibytes, list_gpus
from ncode_search.agent.doctor import examine
from ncode_search.agent.errors import InputError
from ncode_search.agent.search_file import Overrides, SearchFile
from ncode_search.agent.settings import SearchSettings, parse_size
from ncode_search.agent.space_report import space_lines
from ncode_search.agent.states import TrialState

TWO = "0, GPU-aaa, 24564\n1, GPU-bbb, 49140\n"


@pytest.fixture
def with_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Has the driver's program list these GPUs: number, UUID, memory in MiB."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def install(listing: str) -> None:
        program = tmp_path / "bin" / "nvidia-smi"
        program.parent.mkdir(exist_ok=True)
        program.write_text(
            f'#!/bin/sh\n[ "$1" = --query-gpu=index,uuid,memory.total ] || exit 1\ncat <<END\n{listing}END\n'
        )
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")

    return install


def names(**wanted) -> list[str]:
    return [device.name for device in assign(SearchSettings(**wanted))]


def test_without_a_gpu_workers_share_the_cpu(monkeypatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert list_gpus() == []
    assert names() == ["cpu"]
    devices = assign(SearchSettings(workers=4))
    assert [device.name for device in devices] == ["cpu"] * 4
    assert {device.threads for device in devices} == {max(1, available_cores() // 4)}
    assert devices[0].environment["OMP_NUM_THREADS"] == str(devices[0].threads)
    assert devices[0].environment["CUDA_VISIBLE_DEVICES"] == ""


def test_gpus_are_taken_in_turn(with_gpus) -> None:
    with_gpus(TWO)
    assert list_gpus() == [Gpu("0", 24564 << 20), Gpu("1", 49140 << 20)]
    assert names() == ["cuda:0", "cuda:1"]
    assert names(workers=3) == ["cuda:0", "cuda:1", "cuda:0"]
    assert names(workers_per_device=2) == ["cuda:0", "cuda:1", "cuda:0", "cuda:1"]
    assert names(devices=["cuda:1"], workers_per_device=2) == ["cuda:1", "cuda:1"]
    assert names(devices="cpu", workers=2) == ["cpu", "cpu"]
    assert names(devices=["cpu", "cuda:1"]) == ["cpu", "cuda:1"]
    assert assign(SearchSettings())[1] == Device(
        "cuda:1", "cuda:0", max(1, available_cores() // 2), assign(SearchSettings())[1].environment
    )
    assert assign(SearchSettings())[1].environment["CUDA_VISIBLE_DEVICES"] == "1"
    # nvidia-smi's numbers are in this order, CUDA's are not unless it is told.
    assert assign(SearchSettings())[1].environment["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        ("1", [Gpu("1", 49140 << 20)]),
        ("GPU-bbb", [Gpu("GPU-bbb", 49140 << 20)]),
        ("", []),
        ("-1", []),
        ("7", [Gpu("7", None)]),
    ],
)
def test_only_visible_gpus_are_used(with_gpus, monkeypatch, visible: str, expected: list[Gpu]) -> None:
    with_gpus(TWO)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert list_gpus() == expected


def test_memory_says_how_many_fit(with_gpus) -> None:
    with_gpus(TWO)
    need = "10 GiB"
    assert Counter(names(memory=need)) == {"cuda:0": 2, "cuda:1": 4}
    assert names(memory=need, workers=5) == ["cuda:0", "cuda:1"] * 2 + ["cuda:1"]
    assert names(memory=need, workers_per_device=2) == ["cuda:0", "cuda:1"] * 2
    assert names(memory="30 GiB") == ["cuda:1"], "a GPU that is too small is not asked for by name"
    assert len(names(devices="cpu", memory="1 MiB")) == available_cores()
    assert names(devices="cpu", memory=f"{cpu_memory()} B") == ["cpu"]


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"devices": ["cuda:2"]}, "devices: there is no cuda:2; this machine has cpu, cuda:0, cuda:1"),
        (
            {"memory": "30 GiB", "devices": ["cuda:0", "cuda:1"]},
            "memory: of trials of 30 GiB, none can be on cuda:0, which has 24 GiB",
        ),
        ({"memory": "2 TiB"}, "memory: of trials of 2,048 GiB, none can be on cuda:0"),
        (
            {"memory": "20 GiB", "workers_per_device": 2},
            "memory: of trials of 20 GiB, only 1 at a time can be on cuda:0",
        ),
        ({"memory": "20 GiB", "workers": 9}, "workers is 9, but 3 fit on the devices"),
    ],
)
def test_what_does_not_fit_is_refused(with_gpus, wanted, said: str) -> None:
    with_gpus(TWO)
    with pytest.raises(InputError, match=rf"^\[search\] {said}"):
        assign(SearchSettings(**wanted))


def test_an_old_driver_that_does_not_know_the_memory_lists_its_gpus(with_gpus) -> None:
    with_gpus("0, GPU-aaa, [N/A]\n")
    assert list_gpus() == [Gpu("0", None)]
    assert names(memory="1 TiB") == ["cuda:0"]


@pytest.mark.parametrize(
    ("text", "size"), [("4 GiB", 4 << 30), ("1.5GB", 1_500_000_000), ("500 MB", 500_000_000), ("7B", 7)]
)
def test_sizes(text, size: int) -> None:
    assert parse_size("memory", text) == size


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"memory": "4 gigs"}, "memory is '4 gigs'; allowed: a size above 0 with its unit, such as \"4 GiB\""),
        ({"memory": "0 GB"}, "memory is '0 GB'"),
        ({"memory": 4}, "memory is 4; allowed: a size above 0 with its unit"),
        ({"memory": True}, "memory is True"),
        ({"workers": 0}, "workers is 0"),
        ({"workers_per_device": 0}, "workers_per_device is 0"),
        ({"workers": 2, "workers_per_device": 2}, "say the same in two ways"),
        ({"devices": []}, r"devices is \[\]"),
        ({"devices": "gpu"}, "devices is 'gpu'"),
        ({"devices": ["cuda:0", 1]}, "devices is"),
    ],
)
def test_wrong_settings_are_named(settings, said: str) -> None:
    with pytest.raises(InputError, match=said):
        SearchSettings(**settings)


def test_a_search_file_may_list_devices(load_file, tmp_path: Path) -> None:
    text = (
        '[search]\nhistory = "h.db"\ndevices = ["cpu"]\nworkers_per_device = 2\nmemory = "1 MiB"\n'
        '[space]\na = [0, 1]\n[evaluator]\nkind = "python"\nfunction = "m:f"\n'
    )
    settings = load_file(text).settings
    assert (settings.devices, settings.workers_per_device, settings.memory_bytes) == (["cpu"], 2, 1 << 20)
    overridden = SearchFile.load(tmp_path / "search.toml", Overrides(workers=3)).settings
    assert (overridden.workers, overridden.workers_per_device) == (3, None)


def test_each_worker_sees_its_own_gpu(with_gpus, make_search, witness: Path) -> None:
    with_gpus(TWO)
    search = make_search("says_its_device", trials=8, workers_per_device=2)
    search.run()
    lines = [line.split() for line in witness.read_text().splitlines()]
    threads = max(1, available_cores() // 4)
    assert {line[0] for line in lines} == {f"cuda:0/0/{threads}", f"cuda:0/1/{threads}"}
    assert len({line[2] for line in lines}) == 4, "two processes a GPU"
    with search.history() as history:
        assert {trial.device for trial in history.trials()} == {"cuda:0", "cuda:1"}


UNRULY = """
import torch


def refuse(device):
    raise RuntimeError(f"Invalid device argument {device}: did you call init?")


torch._C._cuda_resetPeakMemoryStats = refuse
torch.cuda.is_initialized = lambda: READY


def evaluate(config, context):
    return 0.5
"""


@pytest.mark.parametrize("ready", [False, True])
def test_a_gpu_whose_memory_cannot_be_measured_leaves_its_reason(with_gpus, tmp_path, ready: bool) -> None:
    with_gpus(TWO)
    (tmp_path / "mine.py").write_text(UNRULY.replace("READY", str(ready)))
    evaluator = {"kind": "python", "function": "mine.py:evaluate"}
    settings = {"ranker": "random", "history": tmp_path / "h.db", "devices": ["cuda:0"], "trials": 1, "retries": 0}
    search = Search(SearchSpace({"a": [0]}), evaluator=evaluator, folder=tmp_path, **settings)
    search.run()
    with search.history() as history:
        (trial,) = history.trials()
    if ready:
        assert trial.error.endswith("RuntimeError: Invalid device argument 0: did you call init?\n")
    else:
        assert trial.state is TrialState.COMPLETE


SEES = """
import os, sys
from pathlib import Path

seen = (os.environ["CUDA_VISIBLE_DEVICES"], os.environ["CUDA_DEVICE_ORDER"], "torch" in sys.modules)
Path(__file__).with_name("seen.txt").write_text(repr(seen))


def evaluate(config, context):
    return float(context.folder.is_absolute())
"""


@pytest.mark.slow
@pytest.mark.parametrize("command", ["check-evaluator", "prune"])
def test_commands_that_train_see_the_gpu_of_the_file(with_gpus, tmp_path, command: str) -> None:
    with_gpus(TWO)
    (tmp_path / "mine.py").write_text(SEES)
    (tmp_path / "search.toml").write_text(
        '[search]\nhistory = "h.db"\ndevices = ["cuda:1"]\n[space]\na = [0, 1]\n'
        '[evaluator]\nkind = "python"\nfunction = "mine:evaluate"\n'
    )
    arguments = [sys.executable, "-m", "ncode_search.agent", command, "search.toml"]
    done = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False)
    assert (tmp_path / "seen.txt").read_text() == "('1', 'PCI_BUS_ID', False)"
    if command == "check-evaluator":
        assert done.stdout.startswith("search.toml: python, on cuda:1, code ")
        assert "scores                      1\n" in done.stdout, "the folder is absolute"


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="torch can use the GPU here")
@pytest.mark.parametrize("command", ["run", "check-evaluator", "prune"])
def test_a_gpu_that_torch_cannot_use_is_refused_before_any_trial(with_gpus, tmp_path, command: str) -> None:
    with_gpus(TWO)
    (tmp_path / "search.toml").write_text(
        '[search]\nhistory = "h.db"\n[ranker]\nkind = "random"\n[space]\n"cell.0-1" = ["none", "skip"]\n'
        '[evaluator]\nkind = "cnn"\n'
    )
    arguments = [sys.executable, "-m", "ncode_search.agent", command, "search.toml"]
    done = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith('ncode: search.toml: [evaluator] kind = "cnn": torch cannot use the GPU (')
    assert line.endswith('); install a build of torch for its driver, or set [search] devices = "cpu"')


@pytest.mark.skipif(torch.cuda.is_available(), reason="torch can use the GPU here")
def test_doctor_remarks_it(with_gpus, monkeypatch) -> None:
    monkeypatch.setattr("ncode_search.agent.doctor.llama_report", list)
    with_gpus(TWO)
    said = [line for line, _ in examine()]
    assert [line.split("(")[0] for line in said if line.startswith("PyTorch")] == [
        "PyTorch        torch cannot use the GPU "
    ]
    with_gpus("")
    assert not [line for line, _ in examine() if line.startswith("PyTorch")]


def test_doctor_remarks_a_torch_that_cannot_be_imported(with_gpus, tmp_path: Path) -> None:
    with_gpus(TWO)
    (tmp_path / "torch.py").write_text("raise OSError('libcudart.so.12: cannot open shared object file:\\nno such')\n")
    program = (
        "from ncode_search.agent import doctor; doctor.llama_report = list; "
        "print(*((good, line) for line, good in doctor.examine()), sep='\\n')"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=100, check=True, env=environment
    )
    assert done.stdout.splitlines()[-1] == str(
        (
            True,
            "PyTorch        torch cannot be imported (libcudart.so.12: cannot open shared object file: no such); "
            "install it again",
        )
    )


@pytest.mark.parametrize("command", ["check-evaluator", "prune"])
def test_their_errors_about_devices_name_the_file(tmp_path, command: str) -> None:
    path = tmp_path / "search.toml"
    path.write_text('[search]\nhistory = "h.db"\ndevices = "cuda:7"\n[space]\na = [0, 1]\n[evaluator]\nkind = "cnn"\n')
    arguments = [sys.executable, "-m", "ncode_search.agent", command, str(path)]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(f"ncode: {path}: [search] devices: there is no cuda:7")


@pytest.mark.parametrize(
    ("size", "text"),
    [(24 << 30, "24 GiB"), (1023 << 30, "1,023 GiB"), (1 << 40, "1,024 GiB"), (1 << 20, "0.000977 GiB")],
)
def test_sizes_are_readable(size: int, text: str) -> None:
    assert gibibytes(size) == text


# Out of memory

FATES = {
    "full": "out of memory: MemoryError:",
    "torch": "out of memory: OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 GiB.",
    "allocator": "out of memory: RuntimeError: ",
    "wrapped": "out of memory: RuntimeError: the trainer failed",
}


@pytest.mark.slow
def test_complaint_12_a_trial_out_of_memory_fails_at_once_and_leaves_the_next_one_all_of_it(
    make_search, witness: Path
) -> None:
    options = [fate for name in FATES for fate in (name, f"after {name}")]
    search = make_search("memory_hungry", space=SearchSpace({"a": options}), trials=100, retries=3)
    search.run()
    with search.history() as history:
        trials = {search.space.decode(trial.code)["a"]: trial for trial in history.trials()}
    for fate, said in FATES.items():
        failed = trials[fate]
        assert (failed.state, failed.attempt) == (TrialState.FAILED, 1), "it would fare no better"
        assert failed.error.splitlines()[-1].startswith(said)
        assert "Traceback" in failed.error
    assert all(trial.state is TrialState.COMPLETE for fate, trial in trials.items() if fate not in FATES)
    lines = [line.split() for line in witness.read_text().splitlines()]
    order = [search.space.decode(code)["a"] for _, code, _ in lines]
    for index, fate in enumerate(order[:-1]):
        same_process = lines[index][2] == lines[index + 1][2]
        assert same_process == (fate not in FATES), "a process that ran out of memory is not used again"
    sizes = [int(line[0].removesuffix("MiB")) for line in lines]
    first_of_a_process = [sizes[i] for i in range(len(lines)) if i == 0 or order[i - 1] in FATES]
    assert max(first_of_a_process) - min(first_of_a_process) < 50, "what was held is free again"


def test_costs_are_measured_on_the_first_gpu_of_the_file(with_gpus, load_file, tmp_path) -> None:
    with_gpus(TWO)
    (tmp_path / "mine.py").write_text(SEES + "\n\ndef cost(config):\n    return {'ms': 1 + config['a']}\n")
    text = (
        '[search]\nhistory = "h.db"\ndevices = ["cuda:1", "cuda:0"]\n[space]\na = [0, 1]\n'
        "[costs.ms]\nmeasured = true\nmost = 1\n"
        '[evaluator]\nkind = "python"\nfunction = "mine:evaluate"\ncost_function = "mine:cost"\n'
    )
    assert load_file(text).space.feasible == 1
    assert (tmp_path / "seen.txt").read_text() == "('1', 'PCI_BUS_ID', False)"
    (tmp_path / "seen.txt").unlink()
    space_lines(tmp_path / "search.toml")
    assert (tmp_path / "seen.txt").read_text() == "('1', 'PCI_BUS_ID', False)", "`ncode space` measures them, too"
    with pytest.raises(InputError, match=r"search\.toml: \[search\] devices: there is no cuda:2; this machine has"):
        load_file(text.replace("cuda:1", "cuda:2"))

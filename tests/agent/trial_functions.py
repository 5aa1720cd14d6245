"""Evaluators for the tests of the loop; each behaves as real ones sometimes do.

Every evaluation leaves lines in the file that NCODE_TEST_LOG names, on disk before it goes on: a witness beside the
history.
"""

import contextlib
import ctypes
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from ncode_search import Pruned, Result
from ncode_search.evaluators.base import DivergedError


def witness(word: str, context) -> None:
    with open(os.environ["NCODE_TEST_LOG"], "a") as file:
        file.write(f"{word} {context.code} {os.getpid()}\n")
        file.flush()
        os.fsync(file.fileno())


def score(config, context):
    witness("begin", context)
    value = sum(config.values()) / 10
    context.report(1, accuracy=value)
    witness("end", context)
    return Result(value, {"twice": 2 * value})


def loss(config, context):
    return float(sum(config.values()))


def slow(config, context):
    witness("begin", context)
    time.sleep(0.4)
    witness("end", context)
    return sum(config.values()) / 10


def long(config, context):
    witness("begin", context)
    time.sleep(2.5)
    witness("end", context)
    return sum(config.values()) / 10


def until_go(config, context):
    """Until there is a file `go` beside the witness."""
    witness("begin", context)
    while not Path(os.environ["NCODE_TEST_LOG"]).with_name("go").exists():
        time.sleep(0.02)
    witness("end", context)
    return sum(config.values()) / 10


def endless(config, context):
    witness("begin", context)
    time.sleep(300)


def seeded(config, context):
    return context.seed + sum(config.values()) / 100


def hostile(config, context):
    """The first option of position `a` says what happens to the trial; `once` survives its second attempt."""
    witness("begin", context)
    marker = Path(os.environ["NCODE_TEST_LOG"]).with_suffix(f".{context.code}")
    first = not marker.exists()
    marker.touch()
    fate = config["a"]
    if fate == "raise":
        raise RuntimeError("no such layer")
    if fate == "exit":
        os._exit(3)
    if fate == "fork" and os.fork() == 0:
        time.sleep(30)
    if fate == "fork":
        os._exit(4)
    if fate == "sysexit":
        sys.exit("no more")
    if fate == "segfault":
        ctypes.string_at(0)
    if fate == "nan":
        return math.nan
    if fate == "text":
        return "0.5"
    if fate == "prune":
        raise Pruned("no use")
    if fate == "once" and first:
        raise RuntimeError("the first attempt fails")
    if fate == "hang":
        print("about to hang")
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        witness("hanging", context)
        time.sleep(60)
    witness("end", context)
    return 0.5


def always_fails(config, context):
    raise ValueError("the data set is missing")


def ends_its_process(config, context):
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)


def leaves_files(config, context):
    """Fails once, and finds then what it left; the first trial also declares a file to keep."""
    notes = context.directory / "notes"
    state = context.restore()
    if state is None:
        assert not list(context.directory.iterdir()), "the first attempt begins with nothing"
        notes.mkdir()
        (notes / "1").touch()
        context.checkpoint({"epoch": 1})
        raise RuntimeError("the first attempt fails")
    assert (notes / "1").exists()
    if context.trial == 1:
        (context.kept / "adapter.bin").write_text("weights")
    return 0.5


def costly(config, context):
    fate = config["a"]
    time.sleep(0.05)
    if fate == "big":
        bytearray(200_000_000)
    if fate == "prune":
        raise Pruned
    if fate == "raise":
        raise RuntimeError("no such layer")
    if fate == "exit":
        os._exit(3)
    return Result(0.5, seconds=123.5, peak_memory=7) if fate == "own" else 0.5


def curve(config, context):
    """Nine epochs along a curve that tells from the first one how it will end; goes on from its checkpoint."""
    witness("begin", context)
    best = sum(config.values()) / 10
    done = (context.restore() or {"epoch": 0})["epoch"]
    for epoch in range(done + 1, 10):
        accuracy = best * (1 - 0.5**epoch)
        context.checkpoint({"epoch": epoch})
        context.report(epoch, accuracy=accuracy, epoch_again=epoch)
        time.sleep(0.002)
    witness("end", context)
    return accuracy


def keeps_the_stop_to_itself(config, context):
    """As trainers with callbacks do, that end when a flag is set."""
    for epoch in range(1, 10):
        with contextlib.suppress(Pruned):
            context.report(epoch, accuracy=sum(config.values()) / 10)
        if context.should_stop:
            return None
    return sum(config.values()) / 10


def diverges(config, context):
    context.report(1, accuracy=0.5)
    context.report(2, accuracy=math.nan)
    return 0.5


def diverges_at_once(config, context):
    witness("begin", context)
    if config["a"] == 0:
        raise DivergedError("training loss is nan in epoch 1; a lower learning_rate may help")
    return 0.5


def says_its_device(config, context):
    time.sleep(0.3)  # so that every worker gets a trial
    witness(f"{context.device}/{os.environ['CUDA_VISIBLE_DEVICES']}/{context.threads}", context)
    return 0.5


def memory_hungry(config, context):
    """`full`: all the memory that the process may have is in use when more is asked for."""
    import resource

    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    witness(f"{size >> 20}MiB", context)
    if config["a"] == "full":
        resource.setrlimit(resource.RLIMIT_AS, (size + 300_000_000, resource.RLIM_INFINITY))
        held = [bytearray(100_000_000) for _ in range(2)]
        held.append(bytearray(1_000_000_000))
    if config["a"] == "torch":
        import torch

        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
    if config["a"] == "allocator":
        import torch

        torch.empty(1 << 50)
    if config["a"] == "wrapped":
        try:
            raise MemoryError
        except MemoryError as error:
            raise RuntimeError("the trainer failed") from error
    return 0.5


def same(config, context):
    return 0.5

"""Evaluators that searches of these tests run; what they do is on disk in the witness before they go on."""

import contextlib
import ctypes
import dataclasses
import functools
import os
import random
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from ncode_search import Pruned
from ncode_search.evaluators.table import TableEvaluator


def witness(*words: object) -> None:
    with open(os.environ["NCODE_TEST_LOG"], "a") as file:
        file.write(" ".join(map(str, words)) + "\n")
        file.flush()
        os.fsync(file.fileno())


def until_told_to_go() -> None:
    """Until there is a file `go` beside the witness."""
    while not Path(os.environ["NCODE_TEST_LOG"]).with_name("go").exists():
        time.sleep(0.02)


if "NCODE_TEST_SLOW_IMPORT" in os.environ:
    until_told_to_go()


def value_of(config) -> float:
    """The same score for the same configuration, whoever asks; no two options alike."""
    return sum((at + 1) * 0.37 * (option % 7) for at, option in enumerate(config.values()))


def evaluate(config, context, seconds: float) -> float:
    witness("begin", context.code, os.getpid())
    context.report(1, loss=1.0)
    time.sleep(seconds)
    value = value_of(config)
    witness("end", context.code, os.getpid(), value)
    return value


def quick(config, context):
    return evaluate(config, context, 0.05)


def silent(config, context):
    """Reports no epochs."""
    witness("begin", context.code, os.getpid())
    witness("end", context.code, os.getpid(), value_of(config))
    return value_of(config)


def silent_half_second(config, context):
    witness("begin", context.code, os.getpid())
    time.sleep(0.5)
    witness("end", context.code, os.getpid(), value_of(config))
    return value_of(config)


def silent_until_go(config, context):
    witness("begin", context.code, os.getpid())
    until_told_to_go()
    witness("end", context.code, os.getpid(), value_of(config))
    return value_of(config)


def second(config, context):
    return evaluate(config, context, 1.0)


def long(config, context):
    """Long enough for another agent to take it over."""
    return evaluate(config, context, 5.0)


def trained(config, context):
    """Nine epochs, each on disk before the next."""
    witness("begin", context.code, os.getpid())
    done = (context.restore() or {"epoch": 0})["epoch"]
    for epoch in range(done + 1, 10):
        witness("epoch", context.code, epoch)
        time.sleep(0.02)
        context.checkpoint({"epoch": epoch})
        context.report(epoch, accuracy=value_of(config) * (1 - 0.5**epoch))
    witness("end", context.code, os.getpid(), value_of(config))
    return value_of(config)


def dies_before_a_report(config, context):
    """As `trained`, but the first attempt dies between a checkpoint and its report, at epoch 1 or at epoch 3."""
    marker = Path(os.environ["NCODE_TEST_LOG"]).with_suffix(f".{context.code}")
    at = 1 if context.trial % 2 else 3

    def report(step: int, **metrics: float) -> None:
        if step == at and not marker.exists():
            marker.touch()
            os._exit(9)
        context.report(step, **metrics)

    return trained(config, dataclasses.replace(context, report=report))


def hostile(config, context):
    """Position `fate` says what happens to the first attempt at a trial; the second one is well."""
    marker = Path(os.environ["NCODE_TEST_LOG"]).with_suffix(f".{context.code}")
    fate = config["fate"] if not marker.exists() else "fine"
    marker.touch()
    FATES[fate](context)
    witness("begin", context.code, os.getpid())
    witness("end", context.code, os.getpid(), 0.5)
    return 0.5


def looked_up(config, context):
    """A row of the table beside the witness, after a while; before that, whatever somebody ordered in `orders`."""
    if (fate := taken_order()) is not None:
        witness("fate", context.code, os.getpid(), fate)
        FATES[fate](context)
    witness("begin", context.code, os.getpid())
    shortest, longest = map(float, os.environ["NCODE_TEST_SECONDS"].split())
    time.sleep(random.uniform(shortest, longest))
    result = table()(config, context)
    witness("end", context.code, os.getpid(), result.value)
    return result


def taken_order() -> str | None:
    """The fate that somebody ordered for the next evaluation; each order is taken once."""
    for order in Path(os.environ["NCODE_TEST_LOG"]).with_name("orders").iterdir():
        with contextlib.suppress(FileNotFoundError):  # another worker was faster
            order.unlink()
            return order.name.split(".")[0]
    return None


@functools.cache
def table() -> TableEvaluator:
    return TableEvaluator(folder=Path(os.environ["NCODE_TEST_LOG"]).parent, path="table.csv", metric="score")


def _hang_in_native_code(context) -> None:
    _start_daemon(context)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    ctypes.PyDLL(None).sleep(300)  # which keeps the interpreter's lock


def _memory(context) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (3 << 30, resource.RLIM_INFINITY))
    bytearray(4 << 30)


def _native_memory(context) -> None:
    """As native libraries do that do not look at what `malloc` answers."""
    resource.setrlimit(resource.RLIMIT_AS, (3 << 30, resource.RLIM_INFINITY))
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    libc.memset(ctypes.c_void_p(libc.malloc(ctypes.c_size_t(4 << 30))), 1, ctypes.c_size_t(1 << 20))


def _print_a_gigabyte(context) -> None:
    block = b"y" * (1 << 20)
    for _ in range(1024):
        os.write(1, block)
        time.sleep(0.001)  # not faster than a busy machine's agent can look
    witness("printed", context.code, os.getpid())


def raises_once(config, context):
    marker = Path(os.environ["NCODE_TEST_LOG"]).with_suffix(f".{context.code}")
    if marker.exists():
        return evaluate(config, context, 0.0)
    marker.touch()
    for step in (1, 2):
        context.report(step, loss=1.0 / step)
    raise ValueError("the loss is not finite")


def forks(config, context):
    """The child comes back as position `child` says, long before the parent."""
    if os.fork() == 0:
        if config["child"] == "returns":
            return -1.0
        raise {"raises": RuntimeError, "exits": SystemExit, "prunes": Pruned}[config["child"]]("in the child")
    time.sleep(0.5)
    return silent({"x": 1}, context)


def keeps(config, context):
    """Leaves files, some of which are to be kept."""
    witness("begin", context.code, os.getpid())
    until_told_to_go()
    context.checkpoint({"epoch": 1})
    (context.kept / "adapter").write_text("kept")
    witness("end", context.code, os.getpid(), value_of(config))
    return value_of(config)


def crashes_at_its_end(config, context):
    """Something of the evaluation's takes the process down when the result was just returned."""
    value = evaluate(config, context, 0.0)
    threading.Timer(0.3, os._exit, [9]).start()
    return value


def leaves_a_child(config, context):
    _start_child(context)
    _start_daemon(context)
    return evaluate(config, context, 0.5)


def leaves_children_until_go(config, context):
    _start_child(context)
    _start_daemon(context)
    return silent_until_go(config, context)


def _leave_children(context) -> None:
    _start_child(context)
    _start_daemon(context)
    os._exit(7)


def _start_child(context) -> None:
    child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(300)"])
    witness("child", context.code, child.pid)


DAEMON = """
import os, time
os.fork() and os._exit(0)
os.setsid()
os.fork() and os._exit(0)
print(os.getpid(), flush=True)
os.dup2(2, 1)
time.sleep(300)
"""


def _start_daemon(context) -> None:
    """In a session of its own, and no child of this process."""
    pid = subprocess.check_output([sys.executable, "-S", "-c", DAEMON], text=True)
    witness("child", context.code, int(pid))


FATES = {
    "fine": lambda context: None,
    "hang": _hang_in_native_code,
    "exit": lambda context: os._exit(3),
    "segfault": lambda context: ctypes.string_at(0),
    "abort": lambda context: os.abort(),
    "memory": _memory,
    "native memory": _native_memory,
    "print": _print_a_gigabyte,
    "children": _leave_children,
}

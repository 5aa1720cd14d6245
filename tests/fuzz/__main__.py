"""``python -m tests.fuzz``: damage files of each kind for a while, and tell what ends otherwise than in one line.

Inputs with findings are kept in build/fuzz/inputs/; a hang ends the program with its traceback and leaves its input as
``last``. Once mended, they belong into tests/fuzz/inputs/KIND/, where tests replay them.
"""

from __future__ import annotations

import argparse
import faulthandler
import hashlib
import random
import sys
import time
import traceback
from pathlib import Path

from .kinds import KINDS, ROOT, Kind, check_bytes

FOUND = ROOT / "build" / "fuzz" / "inputs"


def main() -> None:
    """Returns with 1 where anything was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("kinds", nargs="*", default=list(KINDS), help=", ".join(KINDS))
    parser.add_argument("--seconds", type=float, default=600, help="for each kind")
    parser.add_argument("--seed", type=int, default=time.time_ns())
    given = parser.parse_args()
    counts = [fuzz(name, given.seconds, random.Random(f"{name} {given.seed}")) for name in given.kinds]
    sys.exit(1 if sum(counts) else 0)


def fuzz(name: str, seconds: float, rng: random.Random) -> int:
    """The number of different findings."""
    kind, end = KINDS[name], time.monotonic() + seconds
    runs = refused = 0
    findings: dict[str, str] = {}
    while time.monotonic() < end:
        data = kind.damaged(rng, rng.choice(kind.seeds))
        try:
            refused += _watched(kind, data, FOUND / name)
        except Exception as error:
            _report(findings, error, data, FOUND / name)
        runs += 1
    print(f"{name}: {runs} files in {seconds:.0f} s, {refused} refused, {len(findings)} findings", flush=True)
    return len(findings)


def _watched(kind: Kind, data: bytes, folder: Path) -> bool:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "last").write_bytes(data)
    faulthandler.dump_traceback_later(kind.limit, exit=True, file=sys.__stderr__ or sys.stderr)
    try:
        return check_bytes(kind, data, folder / "run")
    finally:
        faulthandler.cancel_dump_traceback_later()


def _report(findings: dict[str, str], error: Exception, data: bytes, folder: Path) -> None:
    """Each place in the code once."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "/agent/" in frame.filename]
    where = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    what = f"{type(error).__name__}: {error}" if isinstance(error, AssertionError) else type(error).__name__
    key = f"{what[:100]} {where}"
    if key in findings:
        return
    name = hashlib.sha256(data).hexdigest()[:12]
    (folder / name).write_bytes(data)
    findings[key] = name
    print(f"--- {folder.name} {name}: {key}", flush=True)
    print("".join(traceback.format_exception(error)[-8:]), flush=True)


if __name__ == "__main__":
    main()

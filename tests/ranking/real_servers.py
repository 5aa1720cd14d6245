"""Real model servers on loopback: `llama_cpp.server`, and `llama-server` where there is one."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

KEY = "sk-for-the-tests"
STARTS_WITHIN = 60.0


def llama_server_binary() -> str | None:
    """`llama-server`, from the environment variable NCODE_LLAMA_SERVER or the path."""
    return os.environ.get("NCODE_LLAMA_SERVER") or shutil.which("llama-server")


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class RealServer:
    """A server process; `start` it, `kill` it, and start it again on the same port."""

    def __init__(self, command: Sequence[str], port: int, log: Path, env: dict[str, str] | None = None) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.log = log
        self._command = [str(part) for part in command]
        self._env = os.environ | {"OMP_NUM_THREADS": "1"} | (env or {})
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log, env=self._env)
        end = time.monotonic() + STARTS_WITHIN
        while not self._answers():
            said = self.log.read_text(errors="replace")[-2000:]
            assert self._process.poll() is None, f"the server ended: {said}"
            assert time.monotonic() < end, f"the server does not answer: {said}"
            time.sleep(0.05)

    def kill(self) -> None:
        """End it at once. May be called twice."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._process = None

    def _answers(self) -> bool:
        request = urllib.request.Request(f"{self.url}/v1/models", headers={"Authorization": f"Bearer {KEY}"})
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return answer.status == 200
        except (urllib.error.URLError, OSError):
            return False


def python_server(folder: Path, **models: dict[str, Any]) -> RealServer:
    """`llama_cpp.server` with a model for each name; not started. It wants the key."""
    port = free_port()
    shared = {"n_ctx": 1024, "n_threads": 1, "n_threads_batch": 1, "verbose": False}
    listed = [shared | {"model_alias": name} | settings for name, settings in models.items()]
    config = folder / "server.json"
    config.write_text(json.dumps({"host": "127.0.0.1", "port": port, "api_key": KEY, "models": listed}))
    command = [sys.executable, "-m", "llama_cpp.server", "--config_file", str(config)]
    return RealServer(command, port, folder / "python_server.log")


def binary_server(folder: Path, model: Path) -> RealServer:
    """`llama-server` with one model; not started. It wants the key."""
    port, binary = free_port(), llama_server_binary()
    assert binary is not None
    command = [binary, "-m", str(model), "--host", "127.0.0.1", "--port", str(port), "-t", "1", "-c", "1024"]
    command += ["--api-key", KEY, "-np", "1"]
    libraries = {"LD_LIBRARY_PATH": str(Path(binary).resolve().parent)}
    return RealServer(command, port, folder / "llama_server.log", libraries)

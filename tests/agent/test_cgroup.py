"""What a container leaves: its own limits and those of what it is in, of both versions of control groups."""

from pathlib import Path

import pytest

from ncode_search.agent import cgroup, devices


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(cgroup, "ROOT", tmp_path)
    monkeypatch.setattr(cgroup, "OWN", tmp_path / "own")
    return tmp_path


def write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text + "\n")


def test_the_tightest_limit_on_the_way_to_the_root_counts(root: Path) -> None:
    write(root / "own", "0::/job/step")
    write(root / "job" / "step" / "memory.max", "max")
    write(root / "job" / "memory.max", "4294967296")
    write(root / "memory.max", "8589934592")
    write(root / "job" / "step" / "cpu.max", "150000 100000")
    write(root / "job" / "cpu.max", "max 100000")
    assert (cgroup.memory_limit(), cgroup.core_limit()) == (4 << 30, 2)
    assert devices.cpu_memory() == min(4 << 30, devices.cpu_memory())
    write(root / "job" / "step" / "cpu.max", "100000 100000")
    assert devices.available_cores() == 1


def test_version_1_has_a_tree_for_memory(root: Path) -> None:
    write(root / "own", "9:name=systemd:/\n4:cpu,memory:/job\n0::/")
    write(root / "memory" / "job" / "memory.limit_in_bytes", "1048576")
    write(root / "memory" / "memory.limit_in_bytes", "9223372036854771712")
    assert (cgroup.memory_limit(), cgroup.core_limit()) == (1 << 20, None)
    assert devices.cpu_memory() == 1 << 20


def test_without_groups_there_is_no_limit(root: Path) -> None:
    assert (cgroup.memory_limit(), cgroup.core_limit()) == (None, None)
    write(root / "own", "0::/../elsewhere")
    assert cgroup.memory_limit() is None

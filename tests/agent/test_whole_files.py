"""Files that are written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ncode_search.agent.errors import InputError
from ncode_search.agent.whole_files import replacing, write_atomically


def test_the_new_file_takes_the_place_with_the_rights_of_the_umask(tmp_path: Path) -> None:
    target = tmp_path / "out.json"
    target.write_text("old")
    before = os.umask(0o027)
    try:
        write_atomically(target, b"new")
    finally:
        os.umask(before)
    assert target.read_text() == "new"
    assert target.stat().st_mode & 0o777 == 0o640
    assert os.listdir(tmp_path) == ["out.json"]


def test_an_error_leaves_what_was_there_and_nothing_beside_it(tmp_path: Path) -> None:
    target = tmp_path / "out.json"
    target.write_text("old")
    with pytest.raises(ZeroDivisionError):
        _write_half(target)
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["out.json"]


def test_what_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a folder: name a file"):
        write_atomically(tmp_path, b"")
    with pytest.raises(InputError, match=r"cannot be written \(No such file or directory\): name another file"):
        write_atomically(tmp_path / "nowhere" / "out.json", b"")
    with pytest.raises(InputError, match="No space left on device"):
        _write_on_a_full_disk(tmp_path / "full")
    assert os.listdir(tmp_path) == []


def _write_half(target: Path) -> None:
    with replacing(target) as new:
        new.write_text("half")
        raise ZeroDivisionError


def _write_on_a_full_disk(target: Path) -> None:
    with replacing(target) as new:
        new.unlink()
        new.symlink_to("/dev/full")
        new.write_bytes(b"1")

"""Files are whole or not there, and nothing is left beside them."""

import errno
import hashlib
import itertools
import json
import os
import sys

import pytest

from facefind import files


def test_a_block_that_fails_leaves_what_was_there(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), files.atomic(path) as draft:
        draft.write_text("half" * (1 // len([])))
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_who_writes_a_file_at_once_has_a_draft_each(tmp_path):
    path = tmp_path / "a.json"
    with files.atomic(path) as draft:
        draft.write_text("[1]")
        files.write_text(path, "[2]")
        assert path.read_text() == "[2]"
    assert path.read_text() == "[1]"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_said_with_the_file(tmp_path):
    with pytest.raises(OSError, match=r"No space left on device: '.*a\.json'"):  # noqa: SIM117
        with files.atomic(tmp_path / "a.json"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # as a write says it


def test_missing_folders_are_made_and_nothing_is_left_beside(tmp_path):
    path = tmp_path / "deep" / "er" / "a.bin"
    files.write_bytes(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(path.parent.iterdir()) == [path]


def test_a_block_may_change_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lock = files.Lock("lock")
    assert lock.acquire()
    with files.atomic("a.txt") as draft:
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir("elsewhere")
        draft.write_text("whole")
    lock.release()
    assert (tmp_path / "a.txt").read_text() == "whole"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.txt", "elsewhere"]


def test_a_name_as_long_as_the_file_system_allows(tmp_path):
    path = tmp_path / ("n" * 250 + ".json")
    files.write_json(path, {"ä": 1})
    assert json.loads(path.read_text(encoding="utf-8")) == {"ä": 1}


def test_a_name_that_no_encoding_knows(tmp_path):
    path = tmp_path / os.fsdecode(b"caf\xe9.bin")
    files.write_bytes(path, b"new")
    assert [os.fsencode(p.name) for p in tmp_path.iterdir()] == [b"caf\xe9.bin"]


def test_the_digest_is_that_of_the_content(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"x" * 3_000_000)
    assert files.sha256(path) == hashlib.sha256(b"x" * 3_000_000).hexdigest()


def test_json_lines_skip_blanks_and_a_torn_end(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1}\n\n[2]\n{"torn": ')
    assert list(files.read_json_lines(path)) == [(1, {"a": 1}), (3, [2])]


def test_a_line_that_is_no_json_is_named(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1}\nnonsense\n')
    with pytest.raises(ValueError, match=r"a\.jsonl, line 2"):
        list(files.read_json_lines(path))


def test_broken_lines_of_a_log_may_be_skipped(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('\ufeff{"a": 1}\n{"a": {"a": 2}\n{"a": 3}\n{"a"')
    assert list(files.read_json_lines(path, skip_broken=True)) == [(1, {"a": 1}), (3, {"a": 3})]
    with pytest.raises(ValueError, match=r"log\.jsonl, line 2"):
        list(files.read_json_lines(path))


class Interruption(BaseException):
    """What a signal's handler raises, between any two instructions."""


def interrupted(function, instruction):
    """Whether `function` had so many instructions in `files`; there it is interrupted."""
    left = itertools.count(instruction, -1)

    def trace(frame, event, _):
        if frame.f_code.co_filename != files.__file__:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode" and not next(left):
            raise Interruption
        return trace

    before = sys.gettrace()
    try:
        sys.settrace(trace)
        function()
    except Interruption:
        return True
    finally:
        sys.settrace(before)
    return False


def test_a_lock_whose_release_is_interrupted_anywhere_takes_no_others_file(tmp_path):
    path = tmp_path / "lock"
    for instruction in itertools.count():
        lock, other = files.Lock(path), files.Lock(path)
        assert lock.acquire()
        came = interrupted(lock.release, instruction)
        free = other.acquire()
        with (tmp_path / "opened since").open("w") as file:  # it may have the closed number
            lock.release()
            file.write("still open")
        assert free or other.acquire()
        assert not lock.acquire()
        other.release()
        assert not path.exists()
        if not came:
            break
    assert instruction > 20

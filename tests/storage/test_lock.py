"""One writer at a time, whatever happens to it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from colindex.storage.errors import IndexLockedError
from colindex.storage.lock import LOCK_NAME, WriterLock, writer_is_active

HOLDER = """
import sys, time
from pathlib import Path
from colindex.storage.lock import WriterLock
with WriterLock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def start_holder(path: Path) -> subprocess.Popen[str]:
    """Another process that holds the lock."""
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def end(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


def test_a_second_writer_is_told_who_holds_the_lock(tmp_path: Path) -> None:
    process = start_holder(tmp_path)
    try:
        with pytest.raises(IndexLockedError, match=f"being written by process {process.pid} on .* since 20"):
            WriterLock(tmp_path).acquire()
        assert writer_is_active(tmp_path)
    finally:
        end(process)


def test_a_killed_writer_leaves_no_lock(tmp_path: Path) -> None:
    end(start_holder(tmp_path))
    assert not writer_is_active(tmp_path)
    with WriterLock(tmp_path):
        assert json.loads((tmp_path / LOCK_NAME).read_text())["pid"] == os.getpid()


def test_a_second_writer_in_one_process_is_refused_too(tmp_path: Path) -> None:
    with WriterLock(tmp_path), pytest.raises(IndexLockedError, match=f"process {os.getpid()}"):
        WriterLock(tmp_path).acquire()


def test_the_lock_is_free_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="on purpose"), WriterLock(tmp_path):
        raise RuntimeError("on purpose")
    with WriterLock(tmp_path):
        assert writer_is_active(tmp_path)
    assert not writer_is_active(tmp_path)


def test_releasing_twice_does_nothing(tmp_path: Path) -> None:
    lock = WriterLock(tmp_path)
    lock.acquire()
    lock.release()
    lock.release()
    assert not writer_is_active(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 1}', "\x00\xff"])
def test_text_that_nobody_can_read_does_not_matter(tmp_path: Path, text: str) -> None:
    with WriterLock(tmp_path):
        (tmp_path / LOCK_NAME).write_text(text)
        with pytest.raises(IndexLockedError, match="another process"):
            WriterLock(tmp_path).acquire()


def test_the_lock_of_a_longer_introduction_is_overwritten_whole(tmp_path: Path) -> None:
    (tmp_path / LOCK_NAME).write_text("x" * 500)
    with WriterLock(tmp_path):
        assert json.loads((tmp_path / LOCK_NAME).read_text()).keys() == {"pid", "host", "since"}


def test_a_child_that_lives_on_does_not_keep_the_lock(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    lock = WriterLock(tmp_path)
    lock.acquire()
    child = os.fork()
    if child == 0:  # holds a copy of the descriptor until the pipe ends
        os.close(writer)
        os.read(reader, 1)
        os._exit(0)
    try:
        lock.release()
        assert not writer_is_active(tmp_path)
    finally:
        os.close(writer)
        os.close(reader)
        os.waitpid(child, 0)


def test_looking_does_not_make_a_lock(tmp_path: Path) -> None:
    assert not writer_is_active(tmp_path)
    assert os.listdir(tmp_path) == []

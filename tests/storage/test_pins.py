"""Pins: what a reader holds stays, across threads and processes, and nothing else does."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from colindex.storage.catalog import Catalog
from colindex.storage.lock import WriterLock
from colindex.storage.pins import GenerationGoneError, Pins, folders_of, remove_strays
from tests.storage.samples import add_segment, write_index

HOLD = """
import sys
from pathlib import Path
from colindex.storage.pins import Pins
pins = Pins([Path(sys.argv[1])])
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def index(tmp_path: Path) -> Path:
    write_index(tmp_path / "index", [3, 4])
    return tmp_path / "index"


def stray(index: Path) -> Path:
    folder = index / "segments" / "000042.zarr"
    (folder / "records").mkdir(parents=True)
    (folder / "records" / "x").write_text("x")
    return folder


def removed(index: Path) -> list[Path]:
    with WriterLock(index), Catalog.open_writer(index) as catalog:
        return remove_strays(index, catalog.manifest())


def test_a_held_folder_stays_until_it_is_let_go(index: Path) -> None:
    folder = stray(index)
    first, second = Pins([folder]), Pins([folder])
    assert removed(index) == []
    del first
    gc.collect()
    assert removed(index) == []
    assert (folder / "records" / "x").exists()
    del second
    gc.collect()
    assert removed(index) == [folder]
    assert not folder.exists()


def test_another_process_holds_too_and_its_death_lets_go(index: Path) -> None:
    folder = stray(index)
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"held\n"
        assert removed(index) == []
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
    assert removed(index) == [folder]


def test_a_folder_that_is_gone_is_no_generation(index: Path, tmp_path: Path) -> None:
    held = stray(index)
    with pytest.raises(GenerationGoneError, match="nowhere"):
        Pins([held, tmp_path / "nowhere"])
    gc.collect()
    assert removed(index) == [held], "what was held before the missing one was let go"


def test_a_generation_is_its_codebook_segments_and_tombstones(index: Path) -> None:
    with WriterLock(index), Catalog.open_writer(index) as catalog:
        add_segment(index, catalog, catalog.manifest(), [2, 2])
        folders = folders_of(index, catalog.manifest())
    names = [folder.relative_to(index).as_posix() for folder in folders]
    assert names[0] == "codebook-000001.zarr"
    assert names[1:] == [f"segments/00000{number}.zarr" for number in range(1, len(names))]
    assert all(folder.is_dir() for folder in folders)


def test_holding_writes_nothing(index: Path) -> None:
    def times() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in [index, *index.rglob("*")]}

    with Catalog.open_reader(index) as catalog:
        before = times()
        pins = Pins(folders_of(index, catalog.manifest()))
        assert times() == before
        del pins

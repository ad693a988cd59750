"""Damage anywhere in an index: an error or the right answer, never a signal and never another answer."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from colindex import BuildParams, Index, SearchParams
from colindex.errors import ColindexError
from colindex.storage.verify import verify_index as verify
from tests.words import WordEncoder, documents

Answer = list[tuple[str, float, str]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("damage") / "words.colindex"
    Index.build(path, documents(700), WordEncoder(), BuildParams(segment_tokens=3000))
    return path


def answer(path: Path) -> Answer:
    with Index.open(path, encoder=WordEncoder()) as index:
        hits = index.search("amber cedar rare9", k=30, params=SearchParams(exact=False))
        hits += index.search("amber", k=700, params=SearchParams(exact=True))
        assert "doc-9" in index
        return [(hit.id, hit.score, hit.document.text) for hit in hits]


def data_files(path: Path) -> list[Path]:
    # lock.mdb is LMDB's table of readers and writer.lock names the last writer: neither holds data
    return sorted(f for f in path.rglob("*") if f.is_file() and f.name not in {"lock.mdb", "writer.lock"})


def _truncate(file: Path) -> None:
    with file.open("r+b") as handle:
        handle.truncate(file.stat().st_size // 2)


@pytest.mark.parametrize("damage", [_truncate, Path.unlink], ids=["truncated", "missing"])
def test_every_file_that_is_cut_short_or_gone_is_an_error(
    folder: Path, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    expected = answer(folder)
    for file in data_files(folder):
        copy = tmp_path / "copy"
        shutil.copytree(folder, copy)
        damage(copy / file.relative_to(folder))
        assert verify(copy), file
        try:
            assert answer(copy) == expected, file
        except ColindexError as error:
            assert str(copy) in str(error), error  # noqa: PT017
        shutil.rmtree(copy)


_FLIPS = """
import sys
from pathlib import Path
from tests.test_damage import flip_everywhere
flip_everywhere(Path(sys.argv[1]), Path(sys.argv[2]))
"""


def flip_everywhere(folder: Path, copy: Path) -> None:
    """Flip one bit in each of several regions of each file: found by `verify`, and never another answer."""
    expected = answer(folder)
    rng = random.Random(3)
    shutil.copytree(folder, copy)
    for file in data_files(folder):
        content = file.read_bytes()
        target = copy / file.relative_to(folder)
        regions = 6
        for region in range(regions):
            low, high = region * len(content) // regions, (region + 1) * len(content) // regions
            if low == high:
                continue
            position = rng.randrange(low, high)
            damaged = bytearray(content)
            damaged[position] ^= 1 << rng.randrange(8)
            target.write_bytes(damaged)
            assert verify(copy), (file, position)
            try:
                assert answer(copy) == expected, (file, position)
            except ColindexError as error:
                assert str(copy) in str(error), error  # noqa: PT017
        target.write_bytes(content)
    assert answer(copy) == expected


def test_flipped_bits_are_found_and_never_crash(folder: Path, tmp_path: Path) -> None:
    """In a process of its own: a crash would be a signal, and has to be seen as one."""
    done = subprocess.run(
        [sys.executable, "-c", _FLIPS, str(folder), str(tmp_path / "copy")],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
        check=False,
    )
    assert done.returncode == 0, done.stderr

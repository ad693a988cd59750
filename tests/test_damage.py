"""Damage anywhere in an index: an error or the right answer, never a signal and never another answer.

`pytest tests/test_damage.py --flips 10000` (`make flips`) flips more bytes.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from colindex import BuildParams, Index, SearchParams
from colindex.errors import ColindexError
from colindex.storage.manifest_copy import COPY
from colindex.storage.verify import verify_index as verify
from tests.faults import fast_folder
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


def check_answer(path: Path, expected: Answer) -> None:
    assert answer(path) == expected, path


def error_of(act: Callable[[], object]) -> str | None:
    """What an error of ours says; None where there is none."""
    try:
        act()
    except ColindexError as error:
        return str(error)
    return None


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
        assert verify(copy) or not (copy / COPY).exists(), file  # an older colindex wrote no copy of the manifest
        said = error_of(partial(check_answer, copy, expected))
        assert said is None or str(copy) in said, (file, said)
        shutil.rmtree(copy)


@pytest.fixture(scope="module")
def living(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Five generations: several segments, some with tombstones, and metadata."""
    path = (fast_folder() or tmp_path_factory.getbasetemp()) / f"damage-{os.getpid()}"
    Index.build(path, documents(60), WordEncoder(), BuildParams(segment_tokens=250))
    with Index.open(path, encoder=WordEncoder()) as index:
        index.delete(["doc-3", "doc-50"])
        index.upsert([replace(document, title="changed") for document in documents(9, seed=4)])
        index.add([replace(document, id=f"new-{document.id}") for document in documents(20, seed=5)])
        index.delete(["new-doc-7", "doc-11"])
    yield path
    shutil.rmtree(path)


def living_answer(path: Path) -> Answer:
    """All that an index can be asked for."""
    with Index.open(path, encoder=WordEncoder()) as index:
        hits = index.search("amber cedar rare9", k=30, params=SearchParams(exact=False))
        hits += index.search("amber", k=100, params=SearchParams(exact=True))
        hits += index.search("delta rare7", k=20, where="number >= 5 AND title <> 'title3'")
        hits += index.search("zephyr", k=20, ids=["doc-4", "new-doc-4", "doc-50"])
        assert [id_ in index for id_ in ("doc-9", "new-doc-7", "doc-50")] == [True, False, False]
        return [(hit.id, hit.score, hit.document.text) for hit in hits]


_FLIPS = """
import sys
from pathlib import Path
from tests.test_damage import flip_at_random
flip_at_random(Path(sys.argv[1]), int(sys.argv[2]))
"""
HANGS_AFTER = 60
SOUND, FOUND = 0, 3
"""How a child ends that got the right answers, or an error of ours; Python itself ends with 1 or 2."""


def flip_at_random(folder: Path, count: int) -> None:
    """Flip one bit of one byte at a time; a forked child looks at the index, and may not end by a signal or not at all."""
    assert verify(folder) == []  # and here, not in each child, is imported what that takes
    expected, rng = living_answer(folder), random.Random(11)
    files = sorted(file for file in folder.rglob("*") if file.is_file() and file.stat().st_size)
    sizes = [file.stat().st_size for file in files]
    order, found = rng.sample(files, len(files)), 0
    for number in range(count):
        # every second one in the next file, the others in any byte: most bytes are those of few files
        (file,) = rng.choices(files, sizes) if number % 2 else [order[number // 2 % len(order)]]
        position, bit = rng.randrange(file.stat().st_size), 1 << rng.randrange(8)
        _flip(file, position, bit)
        child = os.fork()
        if child == 0:
            signal.alarm(HANGS_AFTER)
            os._exit(_looked_at(folder, file, expected))  # whatever it raises ends the child with 1, and is printed
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert status in (SOUND, FOUND), f"byte {position} of {file}: ended with {status}"
        found += status == FOUND
        _flip(file, position, bit)
    assert living_answer(folder) == expected
    sys.stdout.write(f"{count} flips, {found} found when opening or reading, all others without harm\n")


def _flip(file: Path, position: int, bit: int) -> None:
    with file.open("r+b") as handle:
        handle.seek(position)
        byte = handle.read(1)[0]
        handle.seek(position)
        handle.write(bytes([byte ^ bit]))


def _looked_at(folder: Path, file: Path, expected: Answer) -> int:
    """Whether the answers are right, or there is an error of ours. Files with data are found by `verify` in any case."""

    def look() -> None:
        if file in data_files(folder):
            assert verify(folder), "verify finds nothing"
        assert living_answer(folder) == expected, "another answer"

    said = error_of(look)
    assert said is None or str(folder) in said, said
    return SOUND if said is None else FOUND


def test_flipped_bits_are_found_or_change_no_answer(living: Path, request: pytest.FixtureRequest) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _FLIPS, str(living), str(request.config.getoption("flips"))],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
        check=False,
    )
    assert done.returncode == 0, done.stderr
    sys.stdout.write(done.stdout)

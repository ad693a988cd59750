"""The spool's columns: what was written comes back, damage is said, and threads may read side by side."""

from __future__ import annotations

import gc
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from colindex.errors import CorruptIndexError
from colindex.spool import Spool
from colindex.types import PooledBatch, SourceTokens, TokenBatch


def batch(vectors: np.ndarray) -> PooledBatch:
    count = len(vectors)
    return PooledBatch(
        TokenBatch(
            ids=("a", "ü"),
            vectors=vectors,
            offsets=np.array([0, 1, count], np.int64),
            token_ids=np.arange(count, dtype=np.int32),
            spans=np.zeros((count, 2), np.int32),
        ),
        SourceTokens(
            offsets=np.array([0, 1, count], np.int64),
            stored=np.arange(count, dtype=np.int32),
            token_ids=np.arange(count, dtype=np.int32),
            spans=np.zeros((count, 2), np.int32),
        ),
    )


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    made = Spool(tmp_path / "spool")
    made.create()
    return made


@pytest.mark.parametrize("ordered", [np.ascontiguousarray, np.asfortranarray])
@pytest.mark.parametrize("shape", [(5, 9), (40_000, 8)])
def test_columns_come_back_as_they_were(spool: Spool, shape: tuple[int, int], ordered: Callable[..., Any]) -> None:
    vectors = ordered(np.random.default_rng(0).normal(size=shape).astype(np.float32))
    written = batch(vectors)
    spool.write_tokens(0, written, written.tokens)
    read = spool.tokens(0)
    assert read.tokens.ids == ("a", "ü")
    for side in ("tokens", "source"):
        for name in ("vectors", "offsets", "stored", "token_ids", "spans"):
            expected = getattr(getattr(written, side), name, None)
            if expected is not None:
                found = getattr(getattr(read, side), name)
                np.testing.assert_array_equal(found, expected)
                assert found.dtype == expected.dtype and found.flags.writeable
    assert spool.holds_tokens(0, written.tokens)
    assert spool.token_offsets(0).tolist() == [0, 1, shape[0]]


def test_a_chunk_that_is_cut_short_or_changed_is_said_to_be_damaged(spool: Spool) -> None:
    spool.write_tokens(0, batch(np.ones((50, 8), np.float32)))
    path = spool.folder / "000000.tokens"
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        vectors = whole.index(archive.read("vectors.npy")[-200:])
    changed = bytearray(whole)
    changed[vectors + 7] ^= 1
    for damaged in (whole[: len(whole) // 2], bytes(changed), whole.replace(b"\x93NUMPY\x01", b"\x93NUMPY\x03")):
        path.write_bytes(damaged)
        with pytest.raises(CorruptIndexError, match=r"000000\.tokens: the spooled vectors are damaged"):
            spool.tokens(0)


def test_an_array_that_says_to_be_longer_than_it_is_is_said_to_be_damaged(spool: Spool) -> None:
    spool.write_tokens(0, batch(np.ones((50, 8), np.float32)))
    path = spool.folder / "000000.tokens"
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["vectors.npy"] = members["vectors.npy"][:-16]
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    with pytest.raises(CorruptIndexError, match=r"000000\.tokens: the spooled vectors are damaged"):
        spool.tokens(0)


@pytest.fixture
def restless() -> Iterator[None]:
    """Threads take turns wherever Python creates objects, as they may at any time, but seldom do."""

    def yield_turn(*_: object) -> None:
        time.sleep(0)

    before = gc.get_threshold()
    gc.callbacks.append(yield_turn)
    gc.set_threshold(5)
    yield
    gc.set_threshold(*before)
    gc.callbacks.remove(yield_turn)


@pytest.mark.usefixtures("restless")
def test_threads_read_chunks_side_by_side(spool: Spool) -> None:
    """Python 3.11's parser loses count where threads parse at once, at calls of unlike depth (python/cpython#106905)."""
    spool.write_tokens(0, batch(np.ones((50, 8), np.float32)))

    def read(depth: int) -> int:
        return read(depth - 1) if depth else sum(len(spool.tokens(0).tokens.ids) for _ in range(50))

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(read, range(8))) == [100] * 8

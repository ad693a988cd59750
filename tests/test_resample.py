"""Resampling: what the records of an index still say of the vectors that went in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from colindex import BuildParams, Document, Index, TokenBatch
from colindex.codebook import Codebook, SearchCodebook
from colindex.pooling import pool
from colindex.resample import decoded_sample, stored_token_ids
from colindex.storage.layout import codebook_path
from colindex.storage.manifest import Manifest
from colindex.storage.plain import read_arrays
from colindex.storage.scanning import Part, scan
from colindex.storage.segments import SegmentReader
from tests.growing import words
from tests.words import WordEncoder, batches, documents

LENGTHS = np.array([3, 7, 1, 12, 5, 2, 9, 4, 6, 11])
NONE = np.empty(0, np.int64)


def given() -> TokenBatch:
    vectors, token_ids = words(int(LENGTHS.sum()), seed=3)
    offsets = np.concatenate([[0], np.cumsum(LENGTHS)])
    return TokenBatch(ids=tuple("abcdefghij"), vectors=vectors, offsets=offsets, token_ids=token_ids)


def manifest_of(folder: Path) -> Manifest:
    with Index.open(folder) as index:
        return index.manifest


def parts(folder: Path, deleted: NDArray[np.int64] = NONE) -> Iterator[Part]:
    for info in manifest_of(folder).segments:
        yield from scan(SegmentReader(folder, info), deleted)


def stored(folder: Path) -> tuple[dict[str, NDArray[np.generic]], dict[str, object]]:
    manifest = manifest_of(folder)
    return read_arrays(codebook_path(folder, manifest.codebook), manifest.codebook_files)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("resample") / "index"
    Index.build_from_vectors(folder, [given()], BuildParams(bits=8, centroids=5))
    return folder


def test_all_documents_give_all_vectors_and_their_ids(folder: Path) -> None:
    vectors, token_ids = decoded_sample(parts(folder), SearchCodebook.from_arrays(*stored(folder)), share=1, seed=0)
    assert token_ids is not None
    assert token_ids.tolist() == words(int(LENGTHS.sum()), seed=3)[1].tolist()
    expected = Codebook.from_arrays(*stored(folder)).project(given().vectors)
    np.testing.assert_allclose(vectors, expected, atol=0.02)


@pytest.mark.parametrize("seed", range(5))
def test_a_share_gives_whole_documents(folder: Path, seed: int) -> None:
    codebook = SearchCodebook.from_arrays(*stored(folder))
    every, _ = decoded_sample(parts(folder), codebook, share=1, seed=0)
    some, ids = decoded_sample(parts(folder), codebook, share=0.5, seed=seed)
    taken = [
        document for document in np.split(every, np.cumsum(LENGTHS)[:-1]) if (document[0] == some).all(axis=1).any()
    ]
    assert 0 < len(taken) < len(LENGTHS)
    assert np.array_equal(np.concatenate(taken), some)
    assert ids is not None
    assert len(ids) == len(some)
    assert np.array_equal(decoded_sample(parts(folder), codebook, share=0.5, seed=seed)[0], some)


def test_deleted_documents_give_nothing(folder: Path) -> None:
    codebook = SearchCodebook.from_arrays(*stored(folder))
    vectors, _ = decoded_sample(parts(folder, np.array([1, 3])), codebook, share=1, seed=0)
    assert len(vectors) == LENGTHS.sum() - LENGTHS[1] - LENGTHS[3]


def test_pooled_vectors_have_the_ids_that_they_were_coded_by(tmp_path: Path) -> None:
    texts = [*documents(30), Document(id="empty", text="")]
    Index.build(tmp_path / "index", texts, WordEncoder(), BuildParams(pool_factor=3))
    found = [stored_token_ids(part) for part in parts(tmp_path / "index")]
    expected = pool(WordEncoder().encode_documents(texts), 3, 1).tokens.token_ids
    assert expected is not None
    assert np.array_equal(np.concatenate([ids for ids in found if ids is not None]), expected)


def test_vectors_without_ids_give_none(tmp_path: Path) -> None:
    Index.build_from_vectors(tmp_path / "index", batches(20))
    codebook = SearchCodebook.from_arrays(*stored(tmp_path / "index"))
    vectors, token_ids = decoded_sample(parts(tmp_path / "index"), codebook, share=1, seed=0)
    assert len(vectors) == manifest_of(tmp_path / "index").tokens
    assert token_ids is None

"""An index that grows: what is new gets centroids, what was there is not touched, and the index tells its drift."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from colindex import BuildParams, Document, Index, SearchParams, TokenBatch
from colindex.drift import Drift
from colindex.storage.verify import verify_index
from tests.growing import KNOWN, LATER, words
from tests.words import WordEncoder, documents

TOKENS = 8  # a document


def batch(name: str, count: int, ids: range, *, seed: int, with_ids: bool = True) -> TokenBatch:
    vectors, token_ids = words(count * TOKENS, ids, seed=seed)
    return TokenBatch(
        ids=tuple(f"{name}-{number}" for number in range(count)),
        vectors=vectors,
        offsets=np.arange(count + 1) * TOKENS,
        token_ids=token_ids if with_ids else None,
    )


def queries(ids: range) -> list[NDArray[np.float32]]:
    return np.split(words(20, ids, seed=9)[0], 5)


def scores(index: Index, ids: range = KNOWN) -> list[dict[str, float]]:
    params = SearchParams(exact=True)
    return [{hit.id: hit.score for hit in index.search_vectors(query, 1000, params=params)} for query in queries(ids)]


def drift(index: Index) -> Drift:
    assert index.manifest.drift is not None
    return Drift.from_json(index.manifest.drift)


@pytest.fixture(scope="module", params=[True, False], ids=["words", "cells"])
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bool]:
    folder = tmp_path_factory.mktemp("growth") / "index"
    Index.build_from_vectors(folder, [batch("old", 67, KNOWN, seed=0, with_ids=request.param)])
    return folder, request.param


@pytest.fixture
def folder(built: tuple[Path, bool], tmp_path: Path) -> Path:
    return Path(shutil.copytree(built[0], tmp_path / "index"))


def test_what_is_new_gets_centroids_and_old_documents_keep_their_scores(folder: Path, built: tuple[Path, bool]) -> None:
    with Index.open(folder) as index:
        before, codebook = scores(index), index.manifest.codebook
        index.add_vectors([batch("new", 60, LATER, seed=1, with_ids=built[1])])
        after = scores(index)
        assert index.manifest.codebook != codebook
        assert drift(index).tokens == 60 * TOKENS
        assert drift(index).unknown == 0
        assert drift(index).ratio < 2  # some seventy without new centroids
    for old, grown in zip(before, after, strict=True):
        assert {id_: grown[id_] for id_ in old} == old
    assert verify_index(folder) == []


def test_new_documents_are_found_by_probing_new_centroids(folder: Path, built: tuple[Path, bool]) -> None:
    with Index.open(folder) as index:
        for seed in (1, 2):  # the second add expands what the first has expanded
            index.add_vectors([batch(f"new{seed}", 60, LATER, seed=seed, with_ids=built[1])])
        assert index.manifest.codebook == "codebook-000003"
        params = SearchParams(exact=False, nprobe=16)
        for query, exact in zip(queries(LATER), scores(index, LATER), strict=True):
            expected = sorted(exact, key=lambda id_: -exact[id_])[:10]
            found = [hit.id for hit in index.search_vectors(query, 10, params=params)]
            assert len(set(found) & set(expected)) >= 9
    assert verify_index(folder) == []


def test_a_reader_keeps_its_codebook(folder: Path, built: tuple[Path, bool]) -> None:
    with Index.open(folder) as reader, Index.open(folder) as writer:
        before = scores(reader)
        writer.add_vectors([batch("new", 60, LATER, seed=1, with_ids=built[1])])
        assert scores(reader) == before
        assert reader.reopen()
        assert scores(reader) == scores(writer)


def test_a_small_add_writes_no_codebook_but_counts(folder: Path, built: tuple[Path, bool]) -> None:
    with Index.open(folder) as index:
        codebook = index.manifest.codebook
        for seed in (1, 2):
            index.add_vectors([batch(f"new{seed}", 1, LATER, seed=seed, with_ids=built[1])])
        assert index.manifest.codebook == codebook
        assert drift(index).tokens == 2 * TOKENS
        assert drift(index).growth(index.manifest.tokens) == pytest.approx(69 / 67), "over the build, not the last add"
        assert drift(index).unknown_share == (1 if built[1] else 0)
        assert drift(index).advice(index.manifest.tokens) is not None


def test_a_number_of_centroids_that_was_asked_for_stays(tmp_path: Path) -> None:
    Index.build_from_vectors(tmp_path / "index", [batch("old", 60, KNOWN, seed=0)], BuildParams(centroids=30))
    with Index.open(tmp_path / "index") as index:
        index.add_vectors([batch("new", 60, LATER, seed=1)])
        assert index.manifest.codebook == "codebook-000001"
        assert drift(index).unknown_share == 1
        assert drift(index).advice(index.manifest.tokens) is not None


def test_texts_are_encoded_once_whether_the_codebook_grows_or_not(tmp_path: Path) -> None:
    Index.build(tmp_path / "index", documents(60), WordEncoder(), BuildParams(bits=8))
    encoder = WordEncoder()
    strangers = [Document(id=f"new-{number}", text=f"strange{number} words{number}") for number in range(60)]
    with Index.open(tmp_path / "index", encoder=encoder) as index:
        index.add(strangers)
        assert index.manifest.codebook == "codebook-000002"
        assert index.search("strange17", 1)[0].id == "new-17"
        calls = encoder.calls
        index.add([replace(strangers[0], id="one more")])
        assert index.manifest.codebook == "codebook-000002"
        assert encoder.calls == calls + 1
    assert verify_index(tmp_path / "index") == []

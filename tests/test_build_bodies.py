"""What a build may not depend on: the body of the kernels, the memory it is given, the threads that share its work."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from colindex import (
    BuildParams,
    Index,
    TokenBatch,
    clustering,
    codec,
    pooling,
    projection,
    sampling,
    segmenting,
    threads,
)
from colindex.errors import MemoryBudgetError, VectorError
from colindex.kernels import chosen, reference
from colindex.params import MINIMUM_BUILD_MEMORY
from colindex.spool import Spool
from colindex.types import PooledBatch
from tests.kernels.bodies import needs_native
from tests.test_build import snapshot
from tests.words import WordEncoder, documents

KERNELS = ("add_rows", "encode_residuals", "encode_trellis", "nearest", "project", "ward_labels")


@pytest.fixture
def reference_body(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in KERNELS:
        monkeypatch.setattr(chosen, name, getattr(reference, name))
    monkeypatch.setattr(pooling, "ward_labels", reference.ward_labels)
    for module in (threads, segmenting):
        monkeypatch.setattr(module, "INDEPENDENT", False)
    return iter(())


def many_vectors(seed: int = 0) -> list[TokenBatch]:
    """Three batches of words around places of their own, of unit length, as float16."""
    rng = np.random.default_rng(seed)
    places = rng.standard_normal((60, 24))
    batches = []
    for number in range(3):
        lengths = rng.integers(0, 30, 90)
        token_ids = rng.integers(0, 60, lengths.sum()).astype(np.int32)
        vectors = places[token_ids] + 0.3 * rng.standard_normal((len(token_ids), 24))
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        ids = tuple(f"{number}-{position}" for position in range(90))
        offsets = np.cumsum([0, *lengths])
        batches.append(TokenBatch(ids, vectors.astype(np.float16), offsets, token_ids))
    return batches


PARAMS = [BuildParams(), BuildParams(bits=1, dim=16, pool_factor=2)]


@needs_native
@pytest.mark.parametrize("params", PARAMS, ids=["plain", "everything else"])
def test_each_body_builds_the_same_bytes(tmp_path: Path, params: BuildParams, request: pytest.FixtureRequest) -> None:
    Index.build_from_vectors(tmp_path / "native", many_vectors(), params)
    request.getfixturevalue("reference_body")
    Index.build_from_vectors(tmp_path / "reference", many_vectors(), params)
    assert snapshot(tmp_path / "native") == snapshot(tmp_path / "reference")


@pytest.mark.usefixtures("reference_body")
def test_without_the_native_body_texts_are_built_and_found(tmp_path: Path) -> None:
    Index.build(tmp_path / "i", documents(300), WordEncoder(), BuildParams(pool_factor=2))
    with Index.open(tmp_path / "i", encoder=WordEncoder()) as index:
        assert index.search("rare7 title0", k=1)[0].id == "doc-7"


@pytest.mark.parametrize("memory", ["700MiB", "8GiB"])
@pytest.mark.parametrize("count", [1, 3])
def test_neither_memory_nor_threads_change_a_byte(tmp_path: Path, memory: str, count: int) -> None:
    params = BuildParams(sample_tokens=3000, segment_tokens=1500, seed=5, threads=2)
    Index.build_from_vectors(tmp_path / "a", many_vectors(), params)
    Index.build_from_vectors(tmp_path / "b", many_vectors(), replace(params, memory=memory, threads=count))
    assert snapshot(tmp_path / "a") == snapshot(tmp_path / "b")


@pytest.mark.parametrize("memory", ["1KiB", 1, "639.9MiB", MINIMUM_BUILD_MEMORY - 1])
def test_memory_that_no_build_keeps_within_is_refused(memory: int | str) -> None:
    with pytest.raises(MemoryBudgetError, match=rf"memory: expected at least 640 MiB .* got {memory!r}; pass a larger"):
        BuildParams(memory=memory)


def test_the_least_memory_is_what_coding_one_chunk_takes(tmp_path: Path) -> None:
    least = BuildParams(memory=MINIMUM_BUILD_MEMORY, threads=4)
    assert MINIMUM_BUILD_MEMORY == segmenting._MEMORY_SHARE * segmenting.CHUNK_CODING_BYTES
    Index.build_from_vectors(tmp_path / "i", many_vectors(), least)
    with Index.open(tmp_path / "i") as index:
        assert len(index) == 270


def test_an_error_in_coding_ends_the_build_and_resuming_finishes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = BuildParams(segment_tokens=1000, threads=2)
    Index.build_from_vectors(tmp_path / "whole", many_vectors(), params)
    encode, calls = codec.TrellisCodec.encode_around, itertools.count()

    def fails_at_the_second_chunk(self: codec.TrellisCodec, *arguments: Any, **options: Any) -> Any:
        if next(calls) == 1:
            raise MemoryError("no room")
        return encode(self, *arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(codec.TrellisCodec, "encode_around", fails_at_the_second_chunk)
        with pytest.raises(MemoryError, match="no room"):
            Index.build_from_vectors(tmp_path / "i", many_vectors(), params)
    Index.build_from_vectors(tmp_path / "i", many_vectors(), params, resume=True)
    assert snapshot(tmp_path / "i") == snapshot(tmp_path / "whole")


class TestSpool:
    @pytest.fixture
    def spool(self, tmp_path: Path) -> Spool:
        spool = Spool(tmp_path / "spool")
        spool.create()
        for number, batch in enumerate(many_vectors()):
            spool.write_tokens(number, PooledBatch(batch, None))
        return spool

    def test_gives_back_what_it_got(self, spool: Spool) -> None:
        for number, batch in enumerate(many_vectors()):
            found = spool.tokens(number).tokens
            assert found.ids == batch.ids
            assert found.vectors.dtype == np.float16
            assert np.array_equal(found.vectors, batch.vectors)
            assert np.array_equal(np.asarray(found.token_ids), np.asarray(batch.token_ids))

    def test_counts_and_ids_are_read_without_vectors(self, spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Spool, "tokens", None)
        for number, batch in enumerate(many_vectors()):
            assert spool.ids(number) == list(batch.ids)
            assert spool.document_count(number) == len(batch)
            assert np.array_equal(spool.token_offsets(number), batch.offsets)

    def test_documents_are_counted_too(self, spool: Spool) -> None:
        spool.write_documents(7, list(documents(5)))
        assert spool.document_count(7) == 5
        assert spool.ids(7) == [f"doc-{number}" for number in range(5)]

    def test_leaves_no_half_written_file_behind_that_counts(
        self, spool: Spool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(file: object, **_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(np, "savez", full)
        with pytest.raises(OSError, match="the disk is full"):
            spool.write_tokens(3, PooledBatch(many_vectors()[0], None))
        assert not spool.has_tokens(3)
        assert spool.chunk_count() == 3


class TestSample:
    def sample(self, tmp_path: Path, chosen: NDArray[np.bool_] | None) -> sampling.Sample:
        spool = Spool(tmp_path / "spool")
        spool.create()
        for number, batch in enumerate(many_vectors()):
            spool.write_tokens(number, PooledBatch(batch, None))
        return sampling.Sample(spool, chosen, np.array([0, 90, 180, 270]), 1000)

    @pytest.mark.parametrize("count", [1, 3])
    def test_chosen_documents_come_projected_in_their_order(self, tmp_path: Path, count: int) -> None:
        chosen = np.random.default_rng(0).random(270) < 0.4
        sample = self.sample(tmp_path, chosen)
        learned = projection.learn_projection(np.empty((0, sample.input_dim), np.float32), None, 0)
        vectors, token_ids = sample.projected(learned, threads=count)
        rows = [
            np.repeat(part, np.diff(b.offsets)) for part, b in zip(np.split(chosen, 3), many_vectors(), strict=True)
        ]
        wanted = np.concatenate([b.vectors[row] for b, row in zip(many_vectors(), rows, strict=True)])
        words = np.concatenate([np.asarray(b.token_ids)[row] for b, row in zip(many_vectors(), rows, strict=True)])
        assert np.array_equal(vectors, learned.apply(wanted))
        assert np.array_equal(np.asarray(token_ids), words)

    def test_all_documents(self, tmp_path: Path) -> None:
        sample = self.sample(tmp_path, None)
        vectors, _ = sample.projected(projection.learn_projection(np.empty((0, 24), np.float32), None, 0))
        assert len(vectors) == sum(len(batch.vectors) for batch in many_vectors())

    def test_without_token_ids_somewhere_there_are_none(self, tmp_path: Path) -> None:
        sample = self.sample(tmp_path, None)
        batch = many_vectors()[1]
        sample.spool.write_tokens(1, PooledBatch(TokenBatch(batch.ids, batch.vectors, batch.offsets), None))
        _, token_ids = sample.projected(projection.learn_projection(np.empty((0, 24), np.float32), None, 0))
        assert token_ids is None


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("row", [0, 39_999])
def test_a_value_that_is_not_finite_is_found_wherever_it_stands(dtype: Any, value: float, row: int) -> None:
    vectors: NDArray[Any] = np.full((40_000, 8), np.finfo(dtype).max, dtype)
    vectors[row, 7] = value
    with pytest.raises(VectorError, match=f"row {row} holds a NaN"):
        TokenBatch(("a",), vectors, np.array([0, 40_000]))


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_coding_around_centroids_is_coding_what_is_left(bits: int) -> None:
    rng = np.random.default_rng(0)
    vectors, centroids = (rng.standard_normal((n, 24)).astype(np.float32) for n in (5000, 7))
    assigned = rng.integers(0, 7, 5000).astype(np.uint32)
    trained = codec.train_codec(vectors, bits, seed=0, threads=1)
    expected_codes, expected = trained.encode(vectors - centroids[assigned])
    codes, lengths = trained.encode_around(vectors, centroids, assigned, threads=3)
    assert np.array_equal(codes, expected_codes)
    assert np.array_equal(lengths, expected)


def test_equal_centroids_of_different_words_stay_apart() -> None:
    vectors = np.repeat(np.eye(2, 8, dtype=np.float32), 50, axis=0)
    token_ids = np.tile(np.array([3, 9], np.int32), 50)  # both words take both places
    learned = clustering.cluster(vectors, token_ids, 40, seed=0, threads=2)
    assert learned.group_offsets.tolist() == [0, 2, 4]
    assert sorted(map(tuple, learned.centroids[:2])) == sorted(map(tuple, learned.centroids[2:]))

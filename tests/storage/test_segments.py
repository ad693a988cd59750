"""Segments: every byte where the format says, readable by any zarr, and nothing but what fits is written."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from zarr.errors import ZarrUserWarning

from colindex.storage import shards
from colindex.storage.checksums import BLOCK_BYTES, block_checksums, file_sum
from colindex.storage.directory import remove_tree
from colindex.storage.entries import MAX_ID_BYTES, encode_id
from colindex.storage.errors import InvalidIdError, StorageError
from colindex.storage.plain import below, write_plain
from colindex.storage.salvage import Salvage
from colindex.storage.segment_writer import SegmentWriter
from colindex.storage.segments import MAX_DOCUMENTS, SegmentInfo, SegmentReader, segment_path
from tests.storage.samples import CENTROIDS, RECORD_BYTES, Batch, batch, stored_records, write_segment

LENGTHS = (5, 0, 17, 3, 8)


@pytest.fixture
def info(tmp_path: Path) -> SegmentInfo:
    return write_segment(tmp_path, "000001", batch(LENGTHS))


# -- what was appended comes back --------------------------------------------------------------------------------------


def check_segment(path: Path, info: SegmentInfo, parts: Sequence[Batch], centroids: int = CENTROIDS) -> None:
    """Everything that the reader gives is what the batches held."""
    reader = SegmentReader(path, SegmentInfo.from_json(json.loads(json.dumps(info.to_json()))))
    records = np.concatenate([part.records for part in parts])
    lengths = np.concatenate([np.diff(part.offsets) for part in parts])
    assert stored_records(reader)[: records.nbytes] == records.tobytes()
    assert not any(stored_records(reader)[records.nbytes :])
    assert reader.offsets.tolist() == [0, *np.cumsum(lengths)]
    numbers = np.repeat(np.arange(len(lengths)), lengths)
    pairs = sorted(set(zip(np.concatenate([p.centroids for p in parts]).tolist(), numbers.tolist(), strict=True)))
    assert reader.postings.tolist() == [document for _, document in pairs]
    starts = [sum(centroid < c for centroid, _ in pairs) for c in range(centroids + 1)] if centroids < 1000 else None
    assert starts is None or reader.postings_offsets.tolist() == starts
    ids = [id for part in parts for id in part.ids]
    assert reader.external_ids(range(len(ids))) == ids
    assert [reader.document(n) for n in range(len(ids))] == [d for part in parts for d in part.documents]
    token_ids, spans = np.concatenate([p.token_ids for p in parts]), np.concatenate([p.spans for p in parts])
    for number, (start, stop) in enumerate(zip(reader.offsets[:-1], reader.offsets[1:], strict=True)):
        inspection = reader.inspection(number)
        assert inspection is not None
        assert inspection.token_ids is not None
        assert inspection.spans is not None
        np.testing.assert_array_equal(inspection.token_ids, token_ids[start:stop])
        np.testing.assert_array_equal(inspection.spans, spans[start:stop])
        assert inspection.pool_map.tolist() == list(range(stop - start))


ids = st.text(min_size=1, max_size=12).filter(lambda id: len(id.encode()) <= MAX_ID_BYTES)


@settings(max_examples=12)
@given(
    lengths=st.lists(st.integers(0, 12), min_size=1, max_size=12),
    cut=st.integers(0, 12),
    data=st.data(),
    seed=st.integers(0, 1000),
)
def test_whatever_is_appended_comes_back(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], cut: int, data: st.DataObject, seed: int
) -> None:
    path = tmp_path_factory.mktemp("segment")
    parts = [batch(lengths[:cut], seed=seed), batch(lengths[cut:], len(lengths[:cut]), seed=seed)]
    for place, part in enumerate(parts):
        count = len(part.ids)
        parts[place] = replace(
            part,
            ids=data.draw(st.lists(ids, min_size=count, max_size=count)),
            documents=data.draw(st.lists(st.binary(max_size=50), min_size=count, max_size=count)),
        )
    check_segment(path, write_segment(path, "000001", *parts), parts)


def test_records_fill_shards_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "_SHARD_BYTES", 2 * 4096 * RECORD_BYTES)
    parts = [batch([3000] * 5), batch([4096, 1, 0, 2500], 5)]
    info = write_segment(tmp_path, "000001", *parts)
    reader = SegmentReader(tmp_path, info)
    assert [shard.blocks for shard in reader.shards] == [2 * RECORD_BYTES, 2 * RECORD_BYTES, 2 * RECORD_BYTES]
    assert info.tokens == 21_597
    check_segment(tmp_path, info, parts)


def by_zarr(path: Path, records: NDArray[np.uint8], chunk_rows: int, rows_of_shard: int) -> None:
    """Records as zarr itself writes them."""
    theirs = zarr.create_array(
        path,
        shape=records.shape,
        dtype="uint8",
        chunks=(chunk_rows, RECORD_BYTES),
        shards=(rows_of_shard, RECORD_BYTES),
        compressors=None,
        filters=None,
        fill_value=0,
        config={"write_empty_chunks": True},
    )
    theirs[:] = records


@pytest.mark.parametrize("rows", [4096, 4097, 8192, 8193])
def test_a_shard_is_what_zarr_itself_would_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    monkeypatch.setattr(shards, "_SHARD_BYTES", 2 * 4096 * RECORD_BYTES)
    part = batch([rows])
    write_segment(tmp_path, "000001", part)
    ours = segment_path(tmp_path, "000001") / "records"
    by_zarr(tmp_path / "theirs", part.records, 4096, 8192)
    files = sorted(file.relative_to(ours) for file in ours.rglob("*") if file.is_file())
    assert files == sorted(f.relative_to(tmp_path / "theirs") for f in (tmp_path / "theirs").rglob("*") if f.is_file())
    for file in files:
        assert (ours / file).read_bytes() == (tmp_path / "theirs" / file).read_bytes()


def test_any_zarr_opens_all_of_it(tmp_path: Path, info: SegmentInfo) -> None:
    part = batch(LENGTHS)
    group = zarr.open_group(segment_path(tmp_path, info.name), mode="r", zarr_format=3)
    assert group.attrs["record_bytes"] == RECORD_BYTES
    reader = SegmentReader(tmp_path, info)
    expected: dict[str, Any] = {
        "records": part.records,
        "offsets": part.offsets,
        "postings/documents": reader.postings,
        "postings/offsets": reader.postings_offsets,
        "block_checksums": reader.block_checksums,
        "inspection/token_ids": part.token_ids,
        "inspection/spans": part.spans,
    }
    for name, values in expected.items():
        np.testing.assert_array_equal(group[name][...], values)  # type: ignore[index]
    with pytest.warns(ZarrUserWarning, match=r"metadata\.sqlite is not recognized"):  # the one file that is no zarr
        names = {name for name, _ in group.members(max_depth=None)}
    assert names >= expected.keys() | {"ids/bytes", "ids/offsets", "documents/bytes", "documents/offsets"}


@pytest.mark.parametrize(
    "rows", [1, 341, 342, 1024, 4095]
)  # 341 rows of 12 bytes end 4 bytes before the first block does
def test_few_rows_take_few_blocks(tmp_path: Path, rows: int) -> None:
    part = batch([rows])
    info = write_segment(tmp_path, "000001", part)
    check_segment(tmp_path, info, [part])
    folder = segment_path(tmp_path, "000001") / "records"
    by_zarr(tmp_path / "theirs", part.records, rows, rows)
    ours, theirs = (folder / "c/0/0").read_bytes(), (tmp_path / "theirs/c/0/0").read_bytes()
    padding = bytes(-rows * RECORD_BYTES % BLOCK_BYTES)
    assert ours == theirs[:-20] + padding + theirs[-20:]  # 20: the index
    assert (folder / "zarr.json").read_bytes() == (tmp_path / "theirs/zarr.json").read_bytes()
    assert np.array_equal(np.asarray(zarr.open_array(folder, mode="r")[:]), part.records)


def test_few_rows_in_a_chunk_of_4096_are_read_too(tmp_path: Path) -> None:
    part = batch(LENGTHS)
    info = write_segment(tmp_path, "000001", part)
    folder = segment_path(tmp_path, "000001")
    remove_tree(folder / "records")
    full = shards.shard_rows(RECORD_BYTES)
    by_zarr(folder / "records", part.records, 4096, full)
    stored = np.zeros(4096 * RECORD_BYTES, np.uint8)
    stored[: part.records.size] = part.records.reshape(-1)
    remove_tree(folder / "block_checksums")
    sums = below("block_checksums", write_plain(folder / "block_checksums", block_checksums(stored.data)))
    files = {**info.files, **sums} | {name: file_sum(folder / name) for name in ("records/zarr.json", "records/c/0/0")}
    check_segment(tmp_path, replace(info, files=files), [part])
    (shard,) = Salvage(tmp_path, replace(info, files=files), [], {0: "a"}).shards
    assert shard.blocks == RECORD_BYTES


def test_what_is_salvaged_of_few_rows_ends_where_they_do(tmp_path: Path, info: SegmentInfo) -> None:
    assert Salvage(tmp_path, info, [], {0: "a"}).shards == SegmentReader(tmp_path, info).shards


def test_full_shards_are_about_64_mib_of_whole_blocks() -> None:
    for record_bytes in (5, 20, 36, 37, 38, 68, 70, 515, 9001):
        size = shards.shard_rows(record_bytes) * record_bytes
        assert size % BLOCK_BYTES == 0
        assert 32 << 20 < size <= max(64 << 20, 4096 * record_bytes)


def test_blocks_have_their_checksums_padding_included(tmp_path: Path, info: SegmentInfo) -> None:
    reader = SegmentReader(tmp_path, info)
    (shard,) = reader.shards
    assert shard.data_bytes == shard.blocks * BLOCK_BYTES == BLOCK_BYTES  # 33 rows
    assert reader.block_checksums.tolist() == block_checksums(stored_records(reader)).tolist()


def test_the_info_says_what_is_on_disk(tmp_path: Path, info: SegmentInfo) -> None:
    folder = segment_path(tmp_path, info.name)
    files = {file.relative_to(folder).as_posix(): file_sum(file) for file in folder.rglob("*") if file.is_file()}
    assert info.files == files
    group = files["zarr.json"].bytes
    assert sum(info.bytes_by_part.values()) + group == info.bytes == sum(sum_.bytes for sum_ in files.values())
    assert (info.documents, info.tokens, info.source_tokens, info.record_bytes) == (5, 33, 33, RECORD_BYTES)


def test_more_than_65536_centroids(tmp_path: Path) -> None:
    part = batch([40, 2, 90], centroids=100_000)
    info = write_segment(tmp_path, "000001", part, centroids=100_000)
    check_segment(tmp_path, info, [part], centroids=100_000)
    reader = SegmentReader(tmp_path, info)
    assert reader.postings_offsets.shape == (100_001,)
    for centroid in part.centroids[:10]:
        start, stop = reader.postings_offsets[centroid], reader.postings_offsets[centroid + 1]
        assert 0 < stop - start <= 3


def test_documents_without_vectors(tmp_path: Path) -> None:
    part = batch([0, 0])
    info = write_segment(tmp_path, "000001", part)
    check_segment(tmp_path, info, [part])
    assert SegmentReader(tmp_path, info).shards == ()


def test_what_is_resident_is_counted(tmp_path: Path, info: SegmentInfo) -> None:
    reader = SegmentReader(tmp_path, info)
    assert reader.resident_bytes == {
        "offsets": 6 * 4,
        "postings": 2 * len(reader.postings),
        "postings_offsets": 4 * (CENTROIDS + 1),
        "block_checksums": 4,
        "filters": 8,  # conditions, of a byte each
    }
    assert not reader.postings.flags.writeable


# -- pooling and inspection --------------------------------------------------------------------------------------------


def test_pooled_documents_lead_back_to_their_tokens(tmp_path: Path) -> None:
    part = batch([2, 0, 3])
    source = np.array([0, 4, 4, 10])
    pool_map = np.array([0, 1, 1, 0, 2, 2, 1, 0, 0, 0], np.int32)
    spans = np.arange(20, dtype=np.int32).reshape(10, 2)
    with SegmentWriter(tmp_path, "000001", record_bytes=RECORD_BYTES, n_centroids=CENTROIDS) as writer:
        writer.append(
            part.records, part.centroids, part.offsets, part.ids, part.documents,
            spans=spans, source_offsets=source, pool_map=pool_map,
        )  # fmt: skip
        info = writer.seal()
    assert (info.tokens, info.source_tokens) == (5, 10)
    reader = SegmentReader(tmp_path, info)
    for number in range(3):
        inspection = reader.inspection(number)
        assert inspection is not None
        assert inspection.token_ids is None
        assert inspection.pool_map.tolist() == pool_map[source[number] : source[number + 1]].tolist()
        assert inspection.spans is not None
        assert inspection.spans.tolist() == spans[source[number] : source[number + 1]].tolist()


def test_without_columns_there_is_nothing_to_inspect(tmp_path: Path) -> None:
    part = batch(LENGTHS)
    with SegmentWriter(tmp_path, "000001", record_bytes=RECORD_BYTES, n_centroids=CENTROIDS) as writer:
        writer.append(part.records, part.centroids, part.offsets, part.ids, part.documents)
        info = writer.seal()
    assert SegmentReader(tmp_path, info).inspection(0) is None
    assert info.bytes_by_part["inspection"] == 0


@pytest.mark.parametrize("number", [-1, 5, 10**9])
def test_a_document_that_does_not_exist(tmp_path: Path, info: SegmentInfo, number: int) -> None:
    reader = SegmentReader(tmp_path, info)
    for read in (reader.document, reader.inspection, lambda n: reader.external_ids([n])):
        with pytest.raises(IndexError, match="segment with 5"):
            read(number)


# -- what a writer refuses ---------------------------------------------------------------------------------------------


def writer_of(path: Path) -> SegmentWriter:
    return SegmentWriter(path, "000001", record_bytes=RECORD_BYTES, n_centroids=CENTROIDS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"records": np.zeros((33, 3), np.uint8)}, "records: expected"),
        ({"records": np.zeros((33, RECORD_BYTES), np.int8)}, "expected uint8, got int8"),
        ({"centroids": np.full(33, CENTROIDS, np.uint32)}, "centroids below 20, got 20"),
        ({"centroids": np.zeros(32, np.uint32)}, "records: expected"),
        ({"offsets": np.array([0, 5, 5, 22, 25, 34])}, "rise from 0 to 33"),
        ({"offsets": np.array([0, 5, 4, 22, 25, 33])}, "rise from 0 to 33"),
        ({"offsets": np.array([0, 33])}, "offsets: expected"),
        ({"documents": [b""]}, "expected 5 documents"),
        ({"token_ids": np.zeros(3, np.int32)}, "token_ids: expected"),
        ({"spans": np.zeros(33, np.int32)}, "spans: expected"),
    ],
)
def test_arguments_that_disagree_are_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    part = replace(batch(LENGTHS), **change)
    with writer_of(tmp_path) as writer, pytest.raises(StorageError, match=message):
        writer.append(
            part.records, part.centroids, part.offsets, part.ids, part.documents, part.token_ids, part.spans
        )  # fmt: skip


def test_columns_have_to_stay_the_same(tmp_path: Path) -> None:
    part = batch(LENGTHS)
    with writer_of(tmp_path) as writer:
        writer.append(part.records, part.centroids, part.offsets, part.ids, part.documents, part.token_ids)
        with pytest.raises(StorageError, match=r"inspection columns .*, as before"):
            writer.append(part.records, part.centroids, part.offsets, part.ids, part.documents)


def test_a_segment_holds_65536_documents_and_no_more(tmp_path: Path) -> None:
    part = batch([0] * (MAX_DOCUMENTS - 1) + [1])
    one = batch([1], MAX_DOCUMENTS)
    with writer_of(tmp_path) as writer:
        writer.append(part.records, part.centroids, part.offsets, part.ids, [b""] * MAX_DOCUMENTS)
        with pytest.raises(StorageError, match="at most 65,536 documents, got 65,537"):
            writer.append(one.records, one.centroids, one.offsets, one.ids, one.documents)
        reader = SegmentReader(tmp_path, writer.seal())
    assert reader.postings.tolist() == [65_535]
    assert reader.external_ids([65_535]) == ["doc-65535"]


def test_a_segment_without_documents_is_refused(tmp_path: Path) -> None:
    writer = writer_of(tmp_path)
    with pytest.raises(StorageError, match="holds a document or more"):
        writer.seal()
    writer.abort()
    assert os.listdir(tmp_path / "segments") == []


def test_an_error_inside_removes_the_segment(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="on purpose"), writer_of(tmp_path):
        raise RuntimeError("on purpose")
    assert os.listdir(tmp_path / "segments") == []


def test_what_a_crash_left_is_removed_first(tmp_path: Path) -> None:
    left = segment_path(tmp_path, "000001") / "records" / "c" / "9" / "0"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"left")
    write_segment(tmp_path, "000001", batch(LENGTHS))
    assert not left.exists()


@pytest.mark.parametrize("arguments", [{"record_bytes": 1, "n_centroids": 5}, {"record_bytes": 9, "n_centroids": 0}])
def test_sizes_that_no_segment_has(tmp_path: Path, arguments: dict[str, int]) -> None:
    with pytest.raises(StorageError, match="segment 000001"):
        SegmentWriter(tmp_path, "000001", **arguments)


@pytest.mark.parametrize("id", ["", "x" * 512, "é" * 256, "\ud800", 7, None, b"doc"])
def test_ids_that_cannot_be_stored(tmp_path: Path, id: Any) -> None:
    with pytest.raises(InvalidIdError):
        encode_id(id)
    part = replace(batch([1]), ids=[id])
    with writer_of(tmp_path) as writer, pytest.raises(InvalidIdError):
        writer.append(part.records, part.centroids, part.offsets, part.ids, part.documents)


@pytest.mark.parametrize("id", ["x", "x" * 511, "é" * 255, "\x00", "👍🏽", "../../etc", " "])
def test_ids_that_can_be_stored(id: str) -> None:
    assert encode_id(id).decode() == id

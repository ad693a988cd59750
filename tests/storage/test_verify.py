"""Verification finds whatever is not as it was committed, and nothing else."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from colindex.storage import shards, verify_segments
from colindex.storage.catalog import Catalog, catalog_path
from colindex.storage.errors import FormatTooNewError, IndexNotBuiltError, IndexNotFoundError
from colindex.storage.layout import stray_paths
from colindex.storage.lock import WriterLock
from colindex.storage.manifest import FORMAT_VERSION, Manifest
from colindex.storage.metadata import METADATA_FILE, MetadataWriter
from colindex.storage.pins import remove_strays
from colindex.storage.plain import below, read_plain, write_plain
from colindex.storage.segment_writer import SegmentWriter
from colindex.storage.segments import SegmentInfo, SegmentReader, segment_path
from colindex.storage.verify import Finding, verify_index
from tests.storage.samples import CENTROIDS, RECORD_BYTES, batch, first_manifest, with_segment, write_index

LENGTHS = (5, 0, 17, 3, 8)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sound") / "index"
    write_index(path, LENGTHS, segments=2)
    return path


@pytest.fixture
def index(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "index"))


def the_finding(path: Path) -> Finding:
    findings = verify_index(path)
    assert len(findings) == 1, findings
    return findings[0]


def test_a_sound_index_has_no_findings(index: Path) -> None:
    assert verify_index(index) == []


def test_every_flipped_bit_and_every_cut_is_found(index: Path) -> None:
    files = sorted(path for path in index.rglob("*") if path.is_file())
    assert len(files) > 60
    for file in files:
        if file.name in ("lock.mdb", "writer.lock") or "000002.zarr" in file.parts:
            continue
        content = file.read_bytes()
        positions = {0, len(content) // 3, len(content) * 2 // 3, len(content) - 1}
        for position in positions if len(content) < 20_000 else {len(content) // 2}:
            file.write_bytes(content[:position] + bytes([content[position] ^ 32]) + content[position + 1 :])
            found = verify_index(index)
            assert {finding.path for finding in found} & {file, file.parent}, (file, position)
        file.write_bytes(content[:-1])
        assert verify_index(index), file
        file.write_bytes(content)
    assert verify_index(index) == []


def test_a_missing_file(index: Path) -> None:
    file = segment_path(index, "000002") / "ids" / "bytes" / "c" / "0"
    file.unlink()
    finding = the_finding(index)
    assert (finding.path, finding.kind, finding.got) == (file, "missing", "No such file or directory")
    assert str(file) in finding.message
    assert "restore it" in finding.message


def test_a_file_of_another_size(index: Path) -> None:
    file = index / "codebook-000001.zarr" / "centroids" / "c" / "0" / "0"
    with file.open("ab") as handle:
        handle.write(b"x")
    finding = the_finding(index)
    assert (finding.path, finding.kind, finding.expected, finding.got) == (file, "size", "324 bytes", "325")


def test_files_that_nothing_names(index: Path) -> None:
    for name in ("notes.txt", "segments/000003.zarr/records/c/0/0", "segments/000001.zarr/offsets/c/1"):
        (index / name).parent.mkdir(parents=True, exist_ok=True)
        (index / name).write_text("x")
    found = verify_index(index)
    assert {finding.kind for finding in found} == {"unexpected"}
    strays = [index / "notes.txt", segment_path(index, "000001") / "offsets" / "c" / "1", segment_path(index, "000003")]
    assert [finding.path for finding in found] == sorted(strays)
    with Catalog.open_reader(index) as catalog:
        assert remove_strays(index, catalog.manifest()) == sorted(strays)
    assert verify_index(index) == []


def test_before_the_first_commit_everything_is_stray(tmp_path: Path) -> None:
    with WriterLock(tmp_path), Catalog.open_writer(tmp_path):
        first_manifest(tmp_path)
    (tmp_path / "segments" / "000001.zarr").mkdir(parents=True)
    assert stray_paths(tmp_path, None) == [tmp_path / "codebook-000001.zarr", tmp_path / "segments" / "000001.zarr"]


def test_a_damaged_catalog_is_one_finding(index: Path) -> None:
    file = catalog_path(index) / "data.mdb"
    content = bytearray(file.read_bytes())
    content[5000] ^= 1
    file.write_bytes(content)
    finding = the_finding(index)
    assert finding.kind == "catalog"
    assert "data.mdb" in finding.message


def test_what_is_no_index_cannot_be_verified(tmp_path: Path) -> None:
    with pytest.raises(IndexNotFoundError):
        verify_index(tmp_path / "nothing")
    with Catalog.open_writer(tmp_path), pytest.raises(IndexNotBuiltError):
        verify_index(tmp_path)
    with Catalog.open_writer(tmp_path) as catalog:
        catalog.commit(replace(first_manifest(tmp_path), format_version=FORMAT_VERSION + 1), [])
    with pytest.raises(FormatTooNewError):
        verify_index(tmp_path)


# -- parts that disagree although every file is what the manifest says -------------------------------------------------


def make_index(path: Path, change: Callable[[Path, SegmentInfo], SegmentInfo], **append: Any) -> Path:
    """An index of one segment that a faulty writer made: `change` rewrites files and says so in the manifest."""
    path.mkdir()
    part = batch(LENGTHS)
    with SegmentWriter(path, "000001", record_bytes=RECORD_BYTES, n_centroids=CENTROIDS) as writer:
        columns = {"token_ids": part.token_ids} | append
        writer.append(part.records, part.centroids, part.offsets, part.ids, part.documents, **columns)
        info = change(path, writer.seal())
    with Catalog.open_writer(path) as catalog:
        manifest = with_segment(first_manifest(path), info, first=True)
        catalog.commit(manifest, ((id, 1, number) for number, id in enumerate(part.ids)))
    return path


def rewritten(path: Path, info: SegmentInfo, part: str, change: Callable[[NDArray[Any]], NDArray[Any]]) -> SegmentInfo:
    """The segment with another array in place of one of its own, and sums to match."""
    folder = segment_path(path, info.name) / part
    files = write_plain(folder, change(read_plain(folder).copy()))
    return replace(info, files=dict(info.files) | below(part, files))


def other_value(index: int, value: int) -> Callable[[NDArray[Any]], NDArray[Any]]:
    def change(array: NDArray[Any]) -> NDArray[Any]:
        array[index] = value
        return array

    return change


@pytest.mark.parametrize(
    ("part", "change", "where"),
    [
        ("offsets", other_value(1, 30), "offsets"),
        ("offsets", other_value(2, 6), "postings"),
        ("postings/documents", other_value(0, 4), "postings"),
        ("postings/documents", other_value(0, 5), "postings"),
        ("postings/documents", lambda a: a[::-1], "postings"),
        ("postings/offsets", other_value(1, 9999), "postings"),
        ("postings/offsets", other_value(0, 1), "postings"),
        ("block_checksums", other_value(0, 0), "records/c/0/0"),
    ],
    ids=["fall", "move", "other document", "no such document", "order", "too far", "late start", "block"],
)
def test_parts_that_disagree(
    tmp_path: Path, part: str, change: Callable[[NDArray[Any]], NDArray[Any]], where: str
) -> None:
    path = make_index(tmp_path / "index", lambda path, info: rewritten(path, info, part, change))
    found = verify_index(path)
    assert {finding.kind for finding in found} == {"segment"}
    assert found[0].path == segment_path(path, "000001") / where


def test_a_posting_too_many(tmp_path: Path) -> None:
    """A centroid and a document that exist, but no record joins them."""

    def change(path: Path, info: SegmentInfo) -> SegmentInfo:
        reader = SegmentReader(path, info)
        centroid = next(c for c in range(CENTROIDS) if 1 not in documents_of(reader, c))
        place = int(reader.postings_offsets[centroid]) + sum(d < 1 for d in documents_of(reader, centroid))
        info = rewritten(path, info, "postings/documents", lambda a: np.insert(a, place, 1))
        starts = np.arange(CENTROIDS + 1) > centroid
        return rewritten(path, info, "postings/offsets", lambda a: (a + starts).astype(np.uint32))

    found = verify_index(make_index(tmp_path / "index", change))
    assert [finding.path.name for finding in found] == ["postings"]
    assert "as many as the records have" in found[0].expected


def documents_of(reader: SegmentReader, centroid: int) -> list[int]:
    start, stop = reader.postings_offsets[centroid], reader.postings_offsets[centroid + 1]
    return [int(document) for document in reader.postings[start:stop]]


def test_a_record_of_a_centroid_that_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "index"
    path.mkdir()
    part = batch(LENGTHS)
    part.records[7, :2] = (CENTROIDS, 0)  # the head of the record says another centroid than the caller does
    with SegmentWriter(path, "000001", record_bytes=RECORD_BYTES, n_centroids=CENTROIDS) as writer:
        writer.append(part.records, part.centroids, part.offsets, part.ids, part.documents)
        info = writer.seal()
    with Catalog.open_writer(path) as catalog:
        manifest = with_segment(first_manifest(path), info, first=True)
        catalog.commit(manifest, ((id, 1, number) for number, id in enumerate(part.ids)))
    assert the_finding(path).path.name == "records"


@pytest.mark.parametrize(
    ("source", "pool_map", "part"),
    [
        (np.array([0, 6, 6, 23, 26, 34]), None, None),
        (np.array([0, 6, 6, 23, 26, 34]), [5] + [0] * 33, "inspection/pool_map"),
        (np.array([0, 6, 6, 23, 26, 34]), [-1] + [0] * 33, "inspection/pool_map"),
    ],
)
def test_a_pooling_map_to_vectors_that_are_not(
    tmp_path: Path, source: NDArray[np.int64], pool_map: list[int] | None, part: str | None
) -> None:
    columns = {"source_offsets": source, "pool_map": np.array(pool_map or [0] * 34, np.int32)}
    columns["token_ids"] = np.zeros(34, np.int32)
    path = make_index(tmp_path / "index", lambda _path, info: info, **columns)
    expected = [] if part is None else [segment_path(path, "000001") / part]
    assert [finding.path for finding in verify_index(path)] == expected


@pytest.mark.parametrize(
    "ids", [[f"doc-{number}" for number in range(4)], ["doc-0", "doc-1", "doc-2", "doc-4", "doc-3"]]
)
def test_metadata_of_other_documents(tmp_path: Path, ids: list[str]) -> None:
    def other(path: Path, info: SegmentInfo) -> SegmentInfo:
        writer = MetadataWriter()
        for id in ids:
            writer.append(id, "", {})
        sum_ = writer.finish(segment_path(path, info.name) / METADATA_FILE)
        return replace(info, files=dict(info.files) | {METADATA_FILE: sum_})

    assert the_finding(make_index(tmp_path / "index", other)).path.name == METADATA_FILE


def test_source_offsets_that_fall(tmp_path: Path) -> None:
    columns = {"source_offsets": np.array([0, 6, 6, 23, 26, 34]), "token_ids": np.zeros(34, np.int32)}
    path = make_index(
        tmp_path / "index",
        lambda path, info: rewritten(path, info, "inspection/source_offsets", other_value(1, 9)),
        **columns,
    )
    assert the_finding(path).path.name == "source_offsets"


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        ([("doc-0", 1, 1), ("doc-1", 1, 0)], {"the catalog to lead 'doc-0'", "the catalog to lead 'doc-1'"}),
        ([("doc-9", 1, 3)], {"one id for document 3"}),
        ([("doc-9", 1, 77)], {"id 'doc-9' to lead to a document"}),
        ([("doc-9", 7, 0)], {"id 'doc-9' to lead to a document"}),
    ],
)
def test_ids_that_lead_elsewhere(tmp_path: Path, ids: list[tuple[str, int, int]], expected: set[str]) -> None:
    path = make_index(tmp_path / "index", lambda _path, info: info)
    with Catalog.open_writer(path) as catalog:
        catalog.commit(replace(catalog.manifest(), generation=2), ids)
    found = verify_index(path)
    assert {finding.kind for finding in found} == {"ids"}
    assert all(any(finding.expected.startswith(text) for text in expected) for finding in found)
    assert len(found) == len(expected)


def test_ids_that_the_catalog_lost(tmp_path: Path) -> None:
    path = tmp_path / "index"
    path.mkdir()
    with Catalog.open_writer(path) as catalog:
        manifest = first_manifest(path)
        part = batch(LENGTHS)
        with SegmentWriter(path, "000001", record_bytes=RECORD_BYTES, n_centroids=CENTROIDS) as writer:
            writer.append(part.records, part.centroids, part.offsets, part.ids, part.documents)
            info = writer.seal()
        catalog.commit(
            with_segment(manifest, info, first=True), [(id, 1, n) for n, id in enumerate(part.ids) if n != 2]
        )
    finding = the_finding(path)
    assert (finding.expected, finding.got) == ("the catalog to lead 'doc-2' to (segment, document) (1, 2)", "None")


def test_pieces_and_shards_of_any_size_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "_SHARD_BYTES", 4096 * RECORD_BYTES)
    monkeypatch.setattr(verify_segments, "_PIECE_ROWS", 1000)
    write_index(tmp_path / "index", [1500] * 6 + [9000, 0, 1])
    for piece in (4096, 1 << 16, 1 << 20):
        monkeypatch.setattr(verify_segments, "_PIECE_BYTES", piece)
        assert verify_index(tmp_path / "index") == []


def test_an_empty_index_is_sound(tmp_path: Path) -> None:
    manifest: Manifest = first_manifest(tmp_path)
    with Catalog.open_writer(tmp_path) as catalog:
        catalog.commit(manifest, [])
    assert verify_index(tmp_path) == []

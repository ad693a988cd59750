"""Exports, imports and copies: the same answers bit for bit, readable with zarr and JSON alone, whole or not there."""

from __future__ import annotations

import fcntl
import io
import json
import os
import re
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import zarr
import zstandard

from colindex import BuildParams, Document, Index, SearchParams, TokenBatch
from colindex.errors import (
    CorruptIndexError,
    DiskSpaceError,
    FormatTooNewError,
    IndexExistsError,
    IndexLockedError,
    IndexNotFoundError,
)
from colindex.exporting import copy_index, export_index
from colindex.importing import import_index
from colindex.progress import Progress
from colindex.storage.staged import working_folder
from colindex.storage.verify import verify_index
from tests.oracles import exact_maxsim
from tests.words import WordEncoder, batches, documents

QUERIES = ["amber cedar", "rare17 delta", "title3 zephyr rare45", "rare2", "flint flint grove"]
WORLDS = {
    "texts": BuildParams(bits=2, segment_tokens=200),
    "pooled texts": BuildParams(bits=4, segment_tokens=200, pool_factor=2),
    "projected texts": BuildParams(bits=2, dim=8),
    "vectors": BuildParams(bits=4, segment_tokens=150),
    "pooled vectors": BuildParams(bits=2, pool_factor=3),
    "vectors kept as they are": BuildParams(bits=32, segment_tokens=150),
}


def build(path: Path, world: str) -> None:
    """An index of some segments with tombstones in most of them."""
    if "vectors" in world:
        Index.build_from_vectors(path, batches(60), WORLDS[world])
        with Index.open(path) as index:
            index.upsert_vectors([TokenBatch.from_arrays(["v3", "new"], [np.eye(16)[:4], np.eye(16)[5:6]])])
            index.delete(["v0", "v17", "v59"])
        return
    Index.build(path, documents(60), WordEncoder(), WORLDS[world])
    with Index.open(path, encoder=WordEncoder()) as index:
        index.upsert([replace(document, id=f"doc-{50 + n}") for n, document in enumerate(documents(20, seed=1))])
        index.delete([f"doc-{n}" for n in (0, 3, 4, 5, 31, 69)])


@pytest.fixture(scope="module", params=WORLDS)
def source(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exchange") / "index"
    build(path, request.param)
    return path


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exchange") / "index"
    build(path, "texts")
    return path


def answers(path: Path) -> list[Any]:
    """Hits, scores, documents and matches of some queries, searched exactly and not."""
    found: list[Any] = []
    with Index.open(path, encoder=None if _is_of_vectors(path) else WordEncoder()) as index:
        rng = np.random.default_rng(4)
        dim = index.manifest.input_dim
        queries = [WordEncoder(dim).encode_query(query) for query in QUERIES] + [rng.standard_normal((3, dim))]
        for exact in (True, False):
            for query in queries:
                hits = index.search_vectors(query, 12, params=SearchParams(exact=exact))
                found.append([(hit.id, hit.score, hit.document) for hit in hits])
        match = index.inspect(queries[0], found[0][0][0])
        found.append((match.similarities.tolist(), match.stored.tolist()))
        found += [None if each is None else each.tolist() for each in (match.token_ids, match.spans)]
        return [*found, len(index), index.manifest.encoder, index.manifest.params, index.manifest.drift]


def _is_of_vectors(path: Path) -> bool:
    with Index.open(path) as index:
        return index.manifest.encoder is None


@pytest.mark.parametrize("name", ["folder", "file.tar", "file.tar.zst"])
def test_an_import_answers_as_the_index_did(source: Path, tmp_path: Path, name: str) -> None:
    report = export_index(source, tmp_path / name, vectors=name == "folder")
    imported = import_index(tmp_path / name, tmp_path / "back")
    assert answers(tmp_path / "back") == answers(source)
    assert verify_index(tmp_path / "back") == []
    assert (imported.documents, imported.tokens) == (report.documents, report.tokens)
    assert sorted(child.name for child in tmp_path.iterdir()) == sorted([name, "back"])


def test_a_copy_is_the_same_generation_in_a_folder_of_its_own(source: Path, tmp_path: Path) -> None:
    report = copy_index(source, tmp_path / "copy")
    shutil.copytree(source, tmp_path / "source")
    assert answers(tmp_path / "copy") == answers(source)
    assert verify_index(tmp_path / "copy") == []
    with Index.open(tmp_path / "copy") as copy, Index.open(source) as index:
        assert copy.manifest == index.manifest
        assert report.generation == index.manifest.generation
        copy.delete([copy.search_vectors(np.ones((1, copy.manifest.input_dim)), 1)[0].id])
        assert len(copy) == len(index) - 1
        assert copy.manifest.generation == report.generation + 1
    assert verify_index(tmp_path / "copy") == []


def test_what_is_imported_can_be_changed_and_exported_again(texts: Path, tmp_path: Path) -> None:
    export_index(texts, tmp_path / "once")
    import_index(tmp_path / "once", tmp_path / "index")
    export_index(tmp_path / "index", tmp_path / "twice")
    for name in ("documents.jsonl.zst", "vectors.zarr/vectors/c/0/0", "vectors.zarr/records/c/0/0"):
        assert (tmp_path / "once" / name).read_bytes() == (tmp_path / "twice" / name).read_bytes()
    with Index.open(tmp_path / "index", encoder=WordEncoder()) as index:
        index.add([Document("fresh", "quokka")])
        assert index.search("quokka", 1)[0].id == "fresh"
    assert verify_index(tmp_path / "index") == []


def test_an_export_is_read_with_zarr_and_json_alone(source: Path, tmp_path: Path) -> None:
    export_index(source, tmp_path / "x")
    lines = zstandard.ZstdDecompressor().stream_reader((tmp_path / "x" / "documents.jsonl.zst").open("rb"))
    rows = [json.loads(line) for line in io.TextIOWrapper(lines, encoding="utf-8")]
    codebook = zarr.open_group(tmp_path / "x" / "codebook.zarr", mode="r")
    manifest = json.loads((tmp_path / "x" / "manifest.json").read_text())
    names = ("vectors.zarr/offsets", "vectors.zarr/vectors", "codebook.zarr/projection")
    offsets, vectors, projection = (np.asarray(zarr.open_array(tmp_path / "x" / name, mode="r")[:]) for name in names)
    assert (len(rows), len(offsets) - 1, len(vectors)) == (manifest["documents"],) * 2 + (manifest["tokens"],)
    assert vectors.dtype == np.float16

    query = np.random.default_rng(1).standard_normal((4, projection.shape[0])).astype(np.float32)
    query /= np.linalg.norm(query, axis=1, keepdims=True)
    projected = query @ projection
    if codebook.attrs["renormalize"]:
        projected /= np.linalg.norm(projected, axis=1, keepdims=True)
    scores = exact_maxsim(projected, vectors, offsets)
    with Index.open(source) as index:
        hits = index.search_vectors(query, len(index), params=SearchParams(exact=True))
        found = {hit.id: (hit.score, hit.document) for hit in hits}
    assert set(found) == {row["id"] for row in rows}
    for row, score in zip(rows, scores.tolist(), strict=True):
        assert found[row["id"]][1] == Document(**row)
        assert found[row["id"]][0] == pytest.approx(score, abs=0.02)


def test_the_readme_of_an_export_runs(texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export_index(texts, tmp_path / "x")
    text = (tmp_path / "x" / "README.txt").read_text()
    code = "\n".join(line.removeprefix("    ") for line in text.splitlines() if line.startswith("    "))
    code = re.sub(r"query = \.\.\..*", "query = given", code.split("\n", 1)[1] if "colindex import" in code else code)
    monkeypatch.chdir(tmp_path / "x")
    names: dict[str, Any] = {"given": WordEncoder().encode_query("amber cedar")}
    exec(compile(code, "README.txt", "exec"), names)
    with Index.open(texts, encoder=WordEncoder()) as index:
        first = json.loads(zstandard.ZstdDecompressor().decompress(_documents(tmp_path / "x")).splitlines()[0])
        (hit,) = index.search("amber cedar", 1, ids=[first["id"]], params=SearchParams(exact=True))
    assert names["score"] == pytest.approx(hit.score, abs=0.02)


def _documents(export: Path) -> bytes:
    """With the content size that a stream does not have, so that one call unpacks it."""
    with zstandard.ZstdDecompressor().stream_reader((export / "documents.jsonl.zst").open("rb")) as stream:
        return zstandard.ZstdCompressor().compress(stream.read())


def test_without_decoded_vectors_the_arrays_are_left_out(texts: Path, tmp_path: Path) -> None:
    export_index(texts, tmp_path / "x", vectors=False)
    assert "vectors" not in dict(zarr.open_group(tmp_path / "x" / "vectors.zarr", mode="r").arrays())
    assert "left out" in (tmp_path / "x" / "README.txt").read_text()


def test_documents_of_an_export_build_an_index(texts: Path, tmp_path: Path) -> None:
    from colindex.corpus import read_corpus

    export_index(texts, tmp_path / "x")
    read = list(read_corpus([tmp_path / "x" / "documents.jsonl.zst"]))
    with Index.open(texts, encoder=WordEncoder()) as index:
        assert len(read) == len(index)
        (hit,) = index.search("amber", 1, ids=[read[7].id])
        assert hit.document == read[7]


def test_segments_with_and_without_token_ids(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal((n, 16)).astype(np.float32) for n in (3, 0, 5)]
    plain = TokenBatch.from_arrays(["a", "b", "c"], arrays)
    known = replace(plain, ids=("d", "e", "f"), token_ids=np.arange(8, dtype=np.int32), spans=np.ones((8, 2), np.int32))
    Index.build_from_vectors(tmp_path / "index", [plain], BuildParams(bits=4))
    with Index.open(tmp_path / "index") as index:
        index.add_vectors([known])
        index.delete(["d"])
    export_index(tmp_path / "index", tmp_path / "x")
    import_index(tmp_path / "x", tmp_path / "back")
    query = rng.standard_normal((2, 16))
    with Index.open(tmp_path / "index") as index, Index.open(tmp_path / "back") as back:
        assert back.search_vectors(query, 9) == index.search_vectors(query, 9)
        for id_ in ("a", "f"):
            one, other = back.inspect(query, id_), index.inspect(query, id_)
            assert np.array_equal(one.similarities, other.similarities)
            ids = (None, None) if id_ == "a" else ([3, 4, 5, 6, 7],) * 2
            assert tuple(None if each is None else each.tolist() for each in (one.token_ids, other.token_ids)) == ids


def test_an_index_of_which_all_was_deleted(tmp_path: Path) -> None:
    Index.build(tmp_path / "index", documents(3), WordEncoder())
    with Index.open(tmp_path / "index") as index:
        index.delete([f"doc-{n}" for n in range(3)])
    export_index(tmp_path / "index", tmp_path / "x")
    import_index(tmp_path / "x", tmp_path / "back")
    with Index.open(tmp_path / "back", encoder=WordEncoder()) as back:
        assert (len(back), back.search("amber")) == (0, [])
        back.add(documents(2))
        assert len(back) == 2


def test_a_writer_that_works_meanwhile_does_not_show(texts: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(texts, tmp_path / "index"))
    before = answers(path)

    def write(progress: Progress) -> None:
        with Index.open(path) as index:
            if "doc-1" in index:
                index.delete(["doc-1", "doc-2"])

    export_index(path, tmp_path / "x", progress=write)
    import_index(tmp_path / "x", tmp_path / "back")
    assert answers(tmp_path / "back") == before
    with Index.open(path) as index:
        assert "doc-1" not in index

    def add(progress: Progress) -> None:
        with Index.open(path, encoder=WordEncoder()) as index:
            index.upsert([Document("doc-7", "quokka")])

    before = answers(path)
    copy_index(path, tmp_path / "copy", progress=add)
    assert answers(tmp_path / "copy") == before
    assert verify_index(tmp_path / "copy") == []


ACTS: dict[str, Callable[[Path, Path], object]] = {"export": export_index, "copy": copy_index, "import": import_index}


@pytest.mark.parametrize("act", ["export", "copy", "import"])
def test_what_exists_is_left_alone(texts: Path, tmp_path: Path, act: str) -> None:
    export_index(texts, tmp_path / "x")
    (tmp_path / "there").write_text("precious")
    with pytest.raises(IndexExistsError, match="choose another"):
        ACTS[act](tmp_path / "x" if act == "import" else texts, tmp_path / "there")
    assert (tmp_path / "there").read_text() == "precious"


@pytest.mark.parametrize("act", ["export", "copy", "import"])
def test_an_end_in_the_middle_leaves_nothing_and_a_kill_is_cleared_away(
    texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, act: str
) -> None:
    export_index(texts, tmp_path / "x")
    source = tmp_path / "x" if act == "import" else texts

    def interrupted(result: Path, destination: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(f"colindex.{'importing' if act == 'import' else 'exporting'}.publish", interrupted)
        with pytest.raises(KeyboardInterrupt):
            ACTS[act](source, tmp_path / "new")
    assert [child.name for child in tmp_path.iterdir()] == ["x"]
    (tmp_path / ".new.partial" / "index").mkdir(parents=True)
    (tmp_path / ".new.partial" / "index" / "rest").write_text("of a kill")
    ACTS[act](source, tmp_path / "new")
    assert sorted(child.name for child in tmp_path.iterdir()) == ["new", "x"]
    assert not list((tmp_path / "new").glob("rest"))


def test_two_at_once_are_told_apart(texts: Path, tmp_path: Path) -> None:
    with working_folder(tmp_path / "new"), pytest.raises(IndexLockedError, match="another process is writing it"):
        export_index(texts, tmp_path / "new")


def test_what_a_kill_left_beside_a_finished_one_is_cleared_away(texts: Path, tmp_path: Path) -> None:
    copy_index(texts, tmp_path / "new")
    (tmp_path / ".new.partial" / "export").mkdir(parents=True)
    with pytest.raises(IndexExistsError, match="choose another"):
        copy_index(texts, tmp_path / "new")
    assert [child.name for child in tmp_path.iterdir()] == ["new"]
    with working_folder(tmp_path / "other"):
        (tmp_path / "other").mkdir()  # published, and not ended yet
        with pytest.raises(IndexExistsError):
            copy_index(texts, tmp_path / "other")
        assert (tmp_path / ".other.partial").is_dir()


@pytest.mark.parametrize(("module", "name"), [(os, "open"), (fcntl, "flock"), (os, "fstat")])
def test_a_working_folder_that_goes_while_it_is_locked_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: ModuleType, name: str
) -> None:
    """Its holder ends before we open it, between that and our locking it, or before we see that we have locked it."""
    step, folder = getattr(module, name), tmp_path / ".new.partial"
    descriptors, going = len(os.listdir("/proc/self/fd")), iter([folder.rmdir])

    def late(*arguments: Any, **options: Any) -> Any:
        if folder.is_dir():
            next(going, lambda: None)()
        return step(*arguments, **options)

    monkeypatch.setattr(module, name, late)
    with working_folder(tmp_path / "new") as work:
        assert next(going, None) is None
        assert work.is_dir()
        with pytest.raises(IndexLockedError), working_folder(tmp_path / "new"):
            pass
    monkeypatch.undo()
    assert list(tmp_path.iterdir()) == []
    assert len(os.listdir("/proc/self/fd")) == descriptors


@pytest.mark.parametrize("act", ["export", "copy", "import"])
def test_a_full_disk_is_said_before_anything_is_written(
    texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, act: str
) -> None:
    export_index(texts, tmp_path / "x")
    monkeypatch.setattr("colindex.storage.directory.free_bytes", lambda path: 1000)
    with pytest.raises(DiskSpaceError, match="only 1,000 are free"):
        ACTS[act](tmp_path / "x" if act == "import" else texts, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_an_index_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(IndexNotFoundError):
        export_index(tmp_path / "gone", tmp_path / "new")


def _flip(path: Path, place: float = 0.5) -> None:
    data = bytearray(path.read_bytes())
    data[int(len(data) * place)] ^= 4
    path.write_bytes(data)


def test_damage_of_the_index_is_found_while_it_is_exported(texts: Path, tmp_path: Path) -> None:
    for part in ("records/c/0/0", "ids/bytes/c/0", "documents/bytes/c/0", "postings/documents/c/0"):
        path = Path(shutil.copytree(texts, tmp_path / "index"))
        _flip(path / "segments" / "000001.zarr" / part, 0.001 if part.startswith("records") else 0.5)
        with pytest.raises(CorruptIndexError):
            export_index(path, tmp_path / "new")
        with pytest.raises(CorruptIndexError):
            copy_index(path, tmp_path / "new")
        shutil.rmtree(path)
    assert list(tmp_path.iterdir()) == []


def test_any_damage_of_an_export_is_found(texts: Path, tmp_path: Path) -> None:
    export_index(texts, tmp_path / "x")
    for file in sorted(file for file in (tmp_path / "x").rglob("*") if file.is_file()):
        sound = file.read_bytes()
        for place in (0.0, 0.5, 0.999):
            _flip(file, place)
            with pytest.raises((CorruptIndexError, FormatTooNewError)):
                import_index(tmp_path / "x", tmp_path / "back")
            file.write_bytes(sound)
        file.unlink()
        with pytest.raises(CorruptIndexError, match="copy the export again, or make a new one"):
            import_index(tmp_path / "x", tmp_path / "back")
        file.write_bytes(sound)
    assert not (tmp_path / "back").exists()
    import_index(tmp_path / "x", tmp_path / "back")


@pytest.mark.parametrize("name", ["x.tar", "x.tar.zst"])
def test_a_damaged_archive_is_no_export(texts: Path, tmp_path: Path, name: str) -> None:
    export_index(texts, tmp_path / name)
    sound = (tmp_path / name).read_bytes()
    for place in (0.0, 0.3, 0.7):
        _flip(tmp_path / name, place)
        with pytest.raises(CorruptIndexError):
            import_index(tmp_path / name, tmp_path / "back")
        (tmp_path / name).write_bytes(sound)
    (tmp_path / name).write_bytes(sound[: len(sound) // 2])
    with pytest.raises(CorruptIndexError):
        import_index(tmp_path / name, tmp_path / "back")
    assert not (tmp_path / "back").exists()


@pytest.mark.parametrize("member", ["../outside", "/outside", "link"])
def test_an_archive_that_reaches_outside_is_refused(tmp_path: Path, member: str) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        header = tarfile.TarInfo(member)
        if member == "link":
            header.type, header.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(header, io.BytesIO())
    with pytest.raises(CorruptIndexError, match="plain files below"):
        import_index(tmp_path / "x.tar", tmp_path / "back")
    assert sorted(child.name for child in tmp_path.iterdir()) == ["x.tar"]


def test_manifests_of_other_things_are_refused(texts: Path, tmp_path: Path) -> None:
    export_index(texts, tmp_path / "x")
    path = tmp_path / "x" / "manifest.json"
    value = json.loads(path.read_text())
    for change, error in (
        ({"version": 2}, FormatTooNewError),
        ({"format": "something"}, CorruptIndexError),
        ({"documents": 1}, CorruptIndexError),
    ):
        path.write_text(json.dumps(value | change))
        with pytest.raises(error):
            import_index(tmp_path / "x", tmp_path / "back")
    with pytest.raises(CorruptIndexError, match="expected the manifest of an export"):
        import_index(tmp_path, tmp_path / "back")

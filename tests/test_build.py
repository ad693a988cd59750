"""Building: what ends on disk, what bad input leaves behind, and what an interrupt costs."""

from __future__ import annotations

import itertools
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from colindex import BuildParams, Document, Index, SearchParams, TokenBatch
from colindex.errors import (
    ColindexError,
    CorpusError,
    DiskSpaceError,
    DuplicateIdError,
    EncoderMismatchError,
    IndexExistsError,
    IndexNotBuiltError,
    IndexNotFoundError,
    InputError,
    InvalidIdError,
    MemoryBudgetError,
    ParameterError,
    VectorError,
)
from colindex.progress import Progress
from colindex.staging import Staging
from colindex.storage.manifest_copy import COPY
from colindex.storage.verify import verify_index as verify
from tests.words import WordEncoder, batches, documents

SMALL = BuildParams(segment_tokens=3000)
QUERIES = ["amber cedar", "rare17 river", "title3 zephyr quartz", "nothing"]


def answers(path: Path) -> list[list[tuple[str, float]]]:
    with Index.open(path, encoder=WordEncoder()) as index:
        found = index.search_batch(QUERIES, k=20, params=SearchParams(exact=False))
        return [[(hit.id, hit.score) for hit in hits] for hits in found]


def snapshot(path: Path) -> dict[str, bytes]:
    """Every committed byte, but for the catalog, the copy of its manifest and the lock, which hold times."""
    files = (file for file in path.rglob("*") if file.is_file() and file.name != "writer.lock")
    return {str(file.relative_to(path)): file.read_bytes() for file in files if not _timed(file)}


def _timed(file: Path) -> bool:
    return "catalog" in str(file) or file.name == COPY


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[[BuildParams], Path]:
    """The folder of an uninterrupted build of 1,300 documents."""
    folders: dict[BuildParams, Path] = {}

    def built(params: BuildParams) -> Path:
        if params not in folders:
            folders[params] = tmp_path_factory.mktemp("whole") / "i"
            Index.build(folders[params], documents(1300), WordEncoder(), params)
        return folders[params]

    return built


def test_a_build_reports_what_it_did(tmp_path: Path) -> None:
    seen: list[Progress] = []
    report = Index.build(tmp_path / "i", documents(1200), WordEncoder(), SMALL, progress=seen.append)
    assert (report.documents, report.generation) == (1200, 1)
    assert report.segments >= 2
    assert report.tokens == sum(len(document.content.split()) for document in documents(1200))
    assert set(report.seconds) == {"ingest", "sample", "train", "encode"}
    assert report.bytes["records"] >= report.tokens * (2 + 2 + 4)
    stages = [progress.stage for progress in seen]
    assert sorted(set(stages), key=stages.index) == ["ingest", "sample", "train", "encode", "commit"]
    assert all(a.done <= b.done for a, b in itertools.pairwise(seen) if a.stage == b.stage)
    for stage in ("sample", "encode"):  # seen from its beginning, with what it comes to
        assert next((one.done, one.total) for one in seen if one.stage == stage) == (0, 1200)
    assert not (tmp_path / "i" / "staging").exists()
    assert verify(tmp_path / "i") == []


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    for name, threads in (("a", 1), ("b", 2)):
        Index.build(tmp_path / name, documents(700), WordEncoder(), replace(SMALL, threads=threads))
    assert snapshot(tmp_path / "a") == snapshot(tmp_path / "b")


def test_a_corpus_larger_than_its_sample_is_encoded_in_pieces(tmp_path: Path) -> None:
    encoder = WordEncoder()
    params = BuildParams(sample_tokens=500, segment_tokens=5000)
    report = Index.build(tmp_path / "i", documents(3000), encoder, params)
    assert report.documents == 3000
    assert verify(tmp_path / "i") == []
    with Index.open(tmp_path / "i", encoder=encoder) as index:
        for number in (0, 1234, 2999):
            assert index.search(f"rare{number}", k=1, params=SearchParams(nprobe=500))[0].id == f"doc-{number}"


@pytest.mark.parametrize("pool_factor", [2, 4])
def test_pooling_stores_fewer_vectors(tmp_path: Path, pool_factor: int) -> None:
    plain = Index.build(tmp_path / "plain", documents(200), WordEncoder(), BuildParams())
    pooled = Index.build(tmp_path / "pooled", documents(200), WordEncoder(), BuildParams(pool_factor=pool_factor))
    assert plain.tokens / pooled.tokens == pytest.approx(pool_factor, rel=0.4)
    assert verify(tmp_path / "pooled") == []
    with Index.open(tmp_path / "pooled", encoder=WordEncoder()) as index:
        best = [hit.id for hit in index.search("rare7 title0", k=20)]
        assert "doc-7" in best[: 1 if pool_factor == 2 else 20]  # random words have no clusters: merging them costs


def test_a_model_that_pools_is_not_pooled_again(tmp_path: Path) -> None:
    encoder = WordEncoder()
    encoder.pools_tokens = True
    with pytest.raises(ParameterError, match="pools tokens itself"):
        Index.build(tmp_path / "i", documents(5), encoder, BuildParams(pool_factor=2))
    assert not (tmp_path / "i").exists()


def test_dim_learns_a_projection(tmp_path: Path) -> None:
    Index.build(tmp_path / "i", documents(300), WordEncoder(dim=32), BuildParams(dim=16, bits=8))
    with Index.open(tmp_path / "i", encoder=WordEncoder(dim=32)) as index:
        assert (index.manifest.input_dim, index.manifest.dim) == (32, 16)
        assert index.search("rare7", k=1)[0].id == "doc-7"


@pytest.mark.parametrize("dim", [8, 24, 100, 1024])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_vectors_of_any_dim(tmp_path: Path, dim: int, dtype: type) -> None:
    data = [replace(batch, vectors=batch.vectors.astype(dtype)) for batch in batches(40, dim=dim)]
    Index.build_from_vectors(tmp_path / "i", iter(data), BuildParams(bits=4))
    with Index.open(tmp_path / "i") as index:
        start, stop = data[0].offsets[5:7]
        own = next(n for n in range(40) if np.diff(data[0].offsets)[n] > 2)
        start, stop = data[0].offsets[own : own + 2]
        assert index.search_vectors(data[0].vectors[start:stop].astype(np.float32), k=1)[0].id == f"v{own}"


def test_one_document_and_one_token(tmp_path: Path) -> None:
    Index.build(tmp_path / "i", [Document("only", "amber")], WordEncoder())
    with Index.open(tmp_path / "i", encoder=WordEncoder()) as index:
        assert [hit.id for hit in index.search("amber", k=10)] == ["only"]
        assert "only" in index
        assert "other" not in index


def _bad_inputs() -> dict[str, tuple[Callable[[Path], object], type[ColindexError], str]]:
    encoder = WordEncoder()
    eight = np.zeros((3, 8), np.float32)

    def text(*docs: Document) -> Callable[[Path], object]:
        return lambda path: Index.build(path, docs, encoder)

    def vectors(make: Callable[[], list[TokenBatch]]) -> Callable[[Path], object]:
        return lambda path: Index.build_from_vectors(path, make())

    twice = (Document("a", "x"), Document("b", "y"), Document("a", "z"))
    nan = np.where(np.arange(8) == 3, np.nan, np.ones((2, 8), np.float32))
    far = [TokenBatch.from_arrays(["a"], [eight]), TokenBatch.from_arrays(["b"], [np.zeros((1, 16), np.float32)])]
    return {
        "empty corpus": (text(), CorpusError, "empty corpus"),
        "no batches": (vectors(list), CorpusError, "empty corpus"),
        "duplicate ids": (text(*twice), DuplicateIdError, "documents 1 and 3 share the id 'a'"),
        "long id": (text(Document("x" * 600, "y")), InvalidIdError, "511"),
        "empty id": (text(Document("", "y")), InvalidIdError, "id"),
        "surrogate id": (text(Document("\ud800", "y")), InvalidIdError, "UTF-8"),
        "surrogate text": (text(Document("a", "\ud800")), InputError, "'a'"),
        "text of bytes": (text(Document("a", b"x")), InputError, "expected text to be str"),  # type: ignore[arg-type]
        "odd metadata": (text(Document("a", "x", metadata={"set": {1}})), InputError, "JSON"),
        "no document": (lambda path: Index.build(path, ["text"], encoder), InputError, "got str"),  # type: ignore[list-item]
        "no batch": (lambda path: Index.build_from_vectors(path, [eight]), InputError, "ndarray"),  # type: ignore[list-item]
        "nan": (vectors(lambda: [TokenBatch.from_arrays(["a"], [nan])]), VectorError, "row 0 holds a NaN"),
        "two dims": (vectors(lambda: far), VectorError, r"got \[8, 16\]"),
        "small dim": (vectors(lambda: [TokenBatch.from_arrays(["a"], [eight[:, :4]])]), VectorError, "8 to 1024"),
        "integers": (vectors(lambda: [TokenBatch.from_arrays(["a"], [eight.astype(int)])]), VectorError, "int64"),
        "offsets": (
            vectors(lambda: [TokenBatch(ids=("a",), vectors=eight, offsets=np.array([0, 2]))]),
            VectorError,
            "3",
        ),
        "falling": (
            vectors(lambda: [TokenBatch(ids=("a", "b", "c"), vectors=eight, offsets=np.array([0, 2, 1, 3]))]),
            VectorError,
            "falling",
        ),
        "no tokens at all": (text(Document("a", "..."), Document("b", "")), VectorError, "no token vectors"),
    }


@pytest.mark.parametrize("name", _bad_inputs())
def test_bad_input_is_a_clear_error_and_leaves_nothing(tmp_path: Path, name: str) -> None:
    act, error, message = _bad_inputs()[name]
    with pytest.raises(error, match=message):
        act(tmp_path / "i")
    assert not (tmp_path / "i").exists()


def test_an_existing_folder_is_left_alone(tmp_path: Path) -> None:
    Index.build(tmp_path / "i", documents(20), WordEncoder())
    before = snapshot(tmp_path / "i")
    for resume in (False, True):
        with pytest.raises(IndexExistsError, match="exists already"):
            Index.build(tmp_path / "i", documents(5), WordEncoder(), resume=resume)
    with pytest.raises(IndexExistsError, match="expected an unfinished build to resume"):
        Index.build(tmp_path / "i", documents(20), WordEncoder(), resume=True)
    assert snapshot(tmp_path / "i") == before
    (tmp_path / "file").write_text("mine")
    with pytest.raises(IndexExistsError):
        Index.build(tmp_path / "file", documents(5), WordEncoder())
    assert (tmp_path / "file").read_text() == "mine"


def test_what_is_no_index_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(IndexNotFoundError, match="missing"):
        Index.open(tmp_path / "missing")
    with pytest.raises(IndexNotFoundError, match=r"catalog\.lmdb"):
        Index.open(tmp_path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(IndexNotFoundError, match="file"):
        Index.open(tmp_path / "file")


def test_another_encoder_is_refused(tmp_path: Path) -> None:
    Index.build(tmp_path / "i", documents(20), WordEncoder())
    with pytest.raises(EncoderMismatchError, match="salt"):
        Index.open(tmp_path / "i", encoder=WordEncoder(salt=1))


def test_too_small_a_budget_names_the_minimum(tmp_path: Path) -> None:
    Index.build(tmp_path / "i", documents(20), WordEncoder())
    with pytest.raises(MemoryBudgetError, match=r"at least (\d+) MiB") as caught:
        Index.open(tmp_path / "i", memory="1MiB")
    minimum = str(caught.value).split("at least ")[1].split(" MiB")[0]
    with Index.open(tmp_path / "i", memory=f"{minimum}MiB") as index:
        assert index.stats().resident_bytes <= index.stats().budget


def test_a_full_disk_is_found_before_it_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("colindex.storage.directory.free_bytes", lambda path: 1000)
    with pytest.raises(DiskSpaceError, match="free"):
        Index.build(tmp_path / "i", documents(2000), WordEncoder())


# ---- interrupts


class _Stop(KeyboardInterrupt):
    """What Ctrl-C does, at a chosen moment."""


@pytest.mark.parametrize("sample_tokens", [None, 500])
@pytest.mark.parametrize("fatal", range(0, 15, 2))
def test_an_interrupted_build_resumes_to_the_same_bytes(
    tmp_path: Path, whole: Callable[[BuildParams], Path], fatal: int, sample_tokens: int | None
) -> None:
    params = replace(SMALL, sample_tokens=sample_tokens)
    calls = 0

    def stop(progress: Progress) -> None:
        nonlocal calls
        calls += 1
        if calls == fatal + 1:
            raise _Stop

    try:
        Index.build(tmp_path / "i", documents(1300), WordEncoder(), params, progress=stop)
    except _Stop:
        if (tmp_path / "i" / "staging").exists():
            with pytest.raises(IndexNotBuiltError, match="no index yet"):
                Index.open(tmp_path / "i")
            with pytest.raises(IndexExistsError, match="--resume"):
                Index.build(tmp_path / "i", documents(1300), WordEncoder(), params)
            Index.build(tmp_path / "i", documents(1300), WordEncoder(), params, resume=True)
    assert snapshot(tmp_path / "i") == snapshot(whole(params))
    assert answers(tmp_path / "i") == answers(whole(params))


def test_a_build_killed_between_commit_and_cleaning_up_is_finished(
    tmp_path: Path, whole: Callable[[BuildParams], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(self: Staging) -> None:
        raise _Stop

    with monkeypatch.context() as patch:
        patch.setattr(Staging, "remove", stop)
        with pytest.raises(_Stop):
            Index.build(tmp_path / "i", documents(1300), WordEncoder(), SMALL)
    assert answers(tmp_path / "i") == answers(whole(SMALL))
    assert Index.build(tmp_path / "i", documents(1300), WordEncoder(), SMALL, resume=True).generation == 1
    assert snapshot(tmp_path / "i") == snapshot(whole(SMALL))
    assert answers(tmp_path / "i") == answers(whole(SMALL))


def test_resuming_something_else_is_refused(tmp_path: Path) -> None:
    def stop(progress: Progress) -> None:
        if progress.stage == "ingest" and progress.done > 600:
            raise _Stop

    with pytest.raises(_Stop):
        Index.build(tmp_path / "i", documents(2000), WordEncoder(), SMALL, progress=stop)
    attempts: tuple[tuple[Callable[[], object], str], ...] = (
        (
            lambda: Index.build(tmp_path / "i", documents(2000), WordEncoder(), replace(SMALL, bits=4), resume=True),
            "bits was 2",
        ),
        (lambda: Index.build(tmp_path / "i", documents(2000), WordEncoder(salt=2), SMALL, resume=True), "salt"),
        (
            lambda: Index.build(tmp_path / "i", documents(2000)[1:], WordEncoder(), SMALL, resume=True),
            "documents differ",
        ),
        (lambda: Index.build_from_vectors(tmp_path / "i", batches(5), SMALL, resume=True), "vectors"),
    )
    for wrong, message in attempts:
        with pytest.raises(ParameterError, match=message):
            wrong()
    Index.build(tmp_path / "i", documents(2000), WordEncoder(), replace(SMALL, memory="1GiB"), resume=True)
    assert verify(tmp_path / "i") == []


_SCRIPT = """
import sys, time
from pathlib import Path
from colindex import BuildParams, Index
from tests.words import WordEncoder, documents

def slowly(progress):
    print(progress.stage, progress.done, flush=True)
    time.sleep(0.01)

Index.build(Path(sys.argv[1]), documents(1300), WordEncoder(), BuildParams(segment_tokens=3000), resume=True, progress=slowly)
"""


def test_a_killed_build_resumes_each_time(tmp_path: Path, whole: Callable[[BuildParams], Path]) -> None:
    """SIGKILL at random moments, again and again into the same folder, until a build gets through."""
    rng, kills = random.Random(7), 0
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    while kills < 4:
        with subprocess.Popen(
            [sys.executable, "-c", _SCRIPT, str(tmp_path / "i")],
            stdout=subprocess.PIPE,
            env=environment,
            cwd=Path(__file__).parents[1],
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()  # the first document is in
            time.sleep(rng.random() * 0.3)
            process.send_signal(signal.SIGKILL)
            kills += process.wait() == -signal.SIGKILL
        if (tmp_path / "i" / "catalog.lmdb").exists() and not (tmp_path / "i" / "staging").exists():
            break
    else:
        Index.build(tmp_path / "i", documents(1300), WordEncoder(), SMALL, resume=True)
    assert kills > 0
    assert answers(tmp_path / "i") == answers(whole(SMALL))
    assert verify(tmp_path / "i") == []

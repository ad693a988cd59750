"""Resuming with other documents than those of the interrupted build: refused, and nothing of it is lost."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from colindex import BuildParams, Document, Index, TokenBatch
from colindex.errors import ParameterError
from colindex.progress import Progress, Report, silent
from tests.test_build import snapshot
from tests.words import WordEncoder, batches, documents

TEXTS = 1024
"""They fill whole chunks of the spool: a longer corpus begins with the same chunks."""
PARAMS = BuildParams(segment_tokens=1000)
POOLED = replace(PARAMS, pool_factor=3)


class _Stop(KeyboardInterrupt):
    """What Ctrl-C does, at a chosen moment."""


def stop_at(stage: str, done: int) -> Report:
    def stop(progress: Progress) -> None:
        if progress.stage == stage and progress.done >= done:
            raise _Stop

    return stop


def build(
    path: Path, kind: str, given: Iterable[Any] | None = None, *, resume: bool = False, progress: Report = silent
) -> None:
    """One of three builds, of its own documents or of others."""
    if kind == "text":
        texts = documents(TEXTS) if given is None else given
        Index.build(path, texts, WordEncoder(), PARAMS, resume=resume, progress=progress)
    else:
        vectors = batches(300) if given is None else given
        params = POOLED if kind == "pooled" else PARAMS
        Index.build_from_vectors(path, vectors, params, resume=resume, progress=progress)


MOMENTS = {
    "text": [("sample", 0), ("sample", 512), ("train", 1), ("encode", 512), ("commit", 0)],
    "vectors": [("train", 0), ("encode", 100), ("commit", 0)],
    "pooled": [("train", 0), ("encode", 100)],
}


@pytest.fixture(
    scope="module",
    params=[(kind, *moment) for kind, moments in MOMENTS.items() for moment in moments],
    ids=lambda param: "-".join(map(str, param)),
)
def interrupted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A build that was stopped after all was read: what it was of, and where it is."""
    kind, stage, done = request.param
    path = tmp_path_factory.mktemp("interrupted") / "i"
    with pytest.raises(_Stop):
        build(path, kind, progress=stop_at(stage, done))
    return kind, path


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, bytes]]:
    """The bytes of a build that nobody stopped."""
    folder = tmp_path_factory.mktemp("whole")

    def of(kind: str) -> dict[str, bytes]:
        if not (folder / kind).exists():
            build(folder / kind, kind)
        return snapshot(folder / kind)

    return of


def _moved(batch: TokenBatch) -> TokenBatch:
    """One value of one vector is a little larger."""
    vectors = batch.vectors.copy()
    vectors[-1, 0] += 1e-6
    return replace(batch, vectors=vectors)


def _named(batch: TokenBatch, prefix: str) -> TokenBatch:
    return replace(batch, ids=tuple(prefix + id_ for id_ in batch.ids))


def _halved(batch: TokenBatch) -> TokenBatch:
    return replace(batch, vectors=batch.vectors.astype(np.float16))


def _other_texts() -> dict[str, tuple[list[Document], str]]:
    own = documents(TEXTS)
    *most, last = own
    return {
        "other ids": (
            [replace(one, id=f"new-{one.id}") for one in own],
            "expected 'doc-0' as document 1, got 'new-doc-0'",
        ),
        "another text": ([*most, replace(last, text="amber")], "documents 513 to 1,024 ('doc-512' to 'doc-1023'), got"),
        "another title": ([*most, replace(last, title="")], "documents 513 to 1,024 "),
        "other metadata": ([*most, replace(last, metadata={"number": -1})], "documents 513 to 1,024 "),
        "another order": (own[::-1], "expected 'doc-0' as document 1, got 'doc-1023'"),
        "fewer": (most, "got other contents or another number of them"),
        "a chunk fewer": (own[:512], "expected more than 512 documents, got no more; the next was 'doc-512'"),
        "none": ([], "expected more than 0 documents, got no more; the next was 'doc-0'"),
        "more": (documents(TEXTS + 1), "expected 1,024 documents, got more, from 'doc-1024' on"),
    }


def _other_vectors() -> dict[str, tuple[list[TokenBatch], str]]:
    own = batches(300)
    *most, last = own
    return {
        "other ids": ([_named(one, "n") for one in own], "expected 'v0' as document 1, got 'nv0'"),
        "another vector": ([*most, _moved(last)], "documents 201 to 300 ('v200' to 'v299'), got other contents"),
        "another dtype": ([*most, _halved(last)], "documents 201 to 300 "),
        "another dim": (batches(300, dim=24), "documents 1 to 100 "),
        "other batches": (batches(300, size=150), "got other contents or another number of them"),
        "fewer": (most, "expected more than 200 documents, got no more; the next was 'v200'"),
        "more": ([*own, _named(last, "n")], "expected 300 documents, got more, from 'nv200' on"),
    }


def test_other_documents_are_refused_and_the_same_go_on(
    interrupted: tuple[str, Path], tmp_path: Path, whole: Callable[[str], dict[str, bytes]]
) -> None:
    kind, path = interrupted[0], Path(shutil.copytree(interrupted[1], tmp_path / "i"))
    others = _other_texts() if kind == "text" else _other_vectors()
    before = snapshot(path)
    for name, (given, message) in others.items():
        with pytest.raises(ParameterError) as caught:
            build(path, kind, given, resume=True)
        said = str(caught.value)
        assert "the documents differ from those of the interrupted build: expected" in said
        assert message in said, name
        assert str(path) in said
        assert "Pass the same documents in the same order, or delete" in said
        assert snapshot(path) == before, name
    build(path, kind, resume=True)
    assert snapshot(path) == whole(kind)


@pytest.mark.parametrize("read", [512, 1024])
def test_before_all_was_read_a_shorter_corpus_is_refused_too(
    tmp_path: Path, read: int, whole: Callable[[str], dict[str, bytes]]
) -> None:
    with pytest.raises(_Stop):
        build(tmp_path / "i", "text", progress=stop_at("ingest", read))
    for given in ([], documents(TEXTS)[: read - 1], [replace(one, text="amber") for one in documents(TEXTS)]):
        with pytest.raises(ParameterError, match="the documents differ from those of the interrupted build"):
            build(tmp_path / "i", "text", given, resume=True)
    build(tmp_path / "i", "text", resume=True)
    assert snapshot(tmp_path / "i") == whole("text")


def test_metadata_in_another_order_is_the_same(tmp_path: Path) -> None:
    there = [Document(f"d{n}", "amber cedar", metadata={"year": n, "lang": "en"}) for n in range(5)]
    back = [replace(one, metadata=dict(reversed(list(one.metadata.items())))) for one in there]
    with pytest.raises(_Stop):
        build(tmp_path / "i", "text", there, progress=stop_at("train", 1))
    build(tmp_path / "i", "text", back, resume=True)
    with Index.open(tmp_path / "i") as index:
        assert len(index) == 5


def test_memory_and_threads_are_of_each_attempt(tmp_path: Path, whole: Callable[[str], dict[str, bytes]]) -> None:
    """A build that an older version began in less memory than is accepted now goes on in more."""
    path = tmp_path / "i"
    with pytest.raises(_Stop):
        build(path, "vectors", progress=stop_at("encode", 100))
    note = path / "staging" / "state.json"
    state = json.loads(note.read_text())
    state["params"] |= {"memory": "64MiB", "threads": 3}
    note.write_text(json.dumps(state))
    build(path, "vectors", resume=True)
    assert snapshot(path) == whole("vectors")

"""What long work tells: every batch that is encoded, never less than before, and at the end all."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from colindex import BuildParams, Document, Encoder, Index, TokenBatch
from colindex.progress import Progress, Rising
from colindex.sources import is_watched
from tests.test_build import snapshot
from tests.words import WordEncoder, batches, documents

BATCH = 32


class WatchedEncoder(WordEncoder):
    """It tells of each batch, as `colindex.Encoder` does."""

    def encode_documents(
        self, documents: Sequence[Document], *, progress: Callable[[int], None] | None = None
    ) -> TokenBatch:
        for start in range(0, len(documents), BATCH):
            if progress is not None:
                progress(min(start + BATCH, len(documents)))
        return super().encode_documents(documents)


def of_stages(seen: list[Progress]) -> dict[str, list[int]]:
    """What was told of each stage, after checks that hold of any."""
    told: dict[str, list[int]] = {}
    for stage, group in itertools.groupby(seen, lambda one: one.stage):
        assert stage not in told, f"{stage} comes back"
        rows = list(group)
        told[stage] = [one.done for one in rows]
        if rows[-1].total is not None:
            assert {one.total for one in rows} == {rows[-1].done}, "one total, and it is reached"
        assert all(a < b for a, b in itertools.pairwise(told[stage])), f"{stage} rises: {told[stage]}"
    return told


BATCHES = [0, *itertools.chain(range(BATCH, 513, BATCH), range(512 + BATCH, 1025, BATCH)), 1056, 1088, 1100]
"""Documents after each batch of 1,100, which are chunks of 512, 512 and 76."""
CHUNKS = [0, 512, 1024, 1100]


def built(path: Path, encoder: WordEncoder, params: BuildParams) -> dict[str, list[int]]:
    seen: list[Progress] = []
    Index.build(path, documents(1100), encoder, params, progress=seen.append)
    return of_stages(seen)


@pytest.mark.parametrize("threads", [1, 4])
def test_a_build_tells_of_each_batch(tmp_path: Path, threads: int) -> None:
    """Of a corpus that is encoded whole for its sample; afterwards nothing is left to encode."""
    told = built(tmp_path / "i", WatchedEncoder(), BuildParams(threads=threads))
    assert (told["sample"], told["encode"]) == (BATCHES, CHUNKS)


@pytest.mark.parametrize("threads", [1, 4])
def test_a_build_of_a_large_corpus_tells_of_each_batch_twice(tmp_path: Path, threads: int) -> None:
    """The chosen documents, and then all: some chunks are encoded ahead of those that are coded."""
    told = built(tmp_path / "i", WatchedEncoder(), BuildParams(sample_tokens=500, threads=threads))
    assert told["encode"] == BATCHES
    assert told["sample"][:2] == [0, BATCH]


def test_an_encoder_that_tells_nothing_is_seen_by_chunks(tmp_path: Path) -> None:
    told = built(tmp_path / "i", WordEncoder(), BuildParams(sample_tokens=500))
    assert told["encode"] == CHUNKS
    assert built(tmp_path / "j", WordEncoder(), BuildParams())["sample"] == CHUNKS


def test_the_same_bytes_whether_it_is_watched_or_not(tmp_path: Path) -> None:
    for name, encoder in (("a", WordEncoder()), ("b", WatchedEncoder())):
        Index.build(tmp_path / name, documents(1100), encoder, BuildParams(sample_tokens=500))
    assert snapshot(tmp_path / "a") == snapshot(tmp_path / "b")


def test_a_resumed_build_rises_from_where_it_was(tmp_path: Path) -> None:
    params, seen = BuildParams(sample_tokens=500, segment_tokens=500), list[Progress]()

    def stop(progress: Progress) -> None:
        if progress.stage == "encode" and progress.done > 1030:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Index.build(tmp_path / "i", documents(1100), WatchedEncoder(), replace(params, threads=1), progress=stop)
    Index.build(tmp_path / "i", documents(1100), WatchedEncoder(), params, resume=True, progress=seen.append)
    told = of_stages(seen)["encode"]
    assert told[0] in CHUNKS
    assert told == BATCHES[BATCHES.index(told[0]) :]


def test_adding_and_retraining_tell_of_each_batch(tmp_path: Path) -> None:
    encoder = WatchedEncoder()
    Index.build(tmp_path / "i", documents(40), encoder)
    with Index.open(tmp_path / "i", encoder=encoder) as index:
        seen: list[Progress] = []
        index.add([replace(one, id=f"new-{one.id}") for one in documents(1060)], progress=seen.append)
        told = of_stages(seen)
        assert 544 in told.get("sample", told["encode"])
        seen.clear()
        index.compact(retrain=True, progress=seen.append)
        assert of_stages(seen)["sample"] == BATCHES


def test_vectors_are_told_by_chunks(tmp_path: Path) -> None:
    seen: list[Progress] = []
    Index.build_from_vectors(tmp_path / "i", batches(250), progress=seen.append)
    assert of_stages(seen)["encode"] == [0, 100, 200, 250]


def test_the_encoder_of_colindex_is_watched() -> None:
    assert is_watched(Encoder.__new__(Encoder))
    assert not is_watched(WordEncoder())


def test_what_has_risen_never_falls() -> None:
    seen: list[Progress] = []
    told = Rising("encode", 100, seen.append, done=10)
    ahead = told.beyond(30)
    for act, count in ((told.at_least, 20), (ahead, 5), (told.at_least, 30), (ahead, 5), (told.at_least, 100)):
        act(count)
    assert [one.done for one in seen] == [10, 20, 35, 100]

"""An open index: its budget, what it touches, several threads and processes at once."""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from colindex import BuildParams, Index, SearchParams
from colindex.errors import IndexNotBuiltError, ParameterError
from colindex.progress import Progress
from tests.words import WORDS, WordEncoder, batches, documents

PROBED = SearchParams(exact=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("index") / "words.colindex"
    Index.build(path, documents(1500), WordEncoder(), BuildParams(segment_tokens=6000))
    return path


def files(path: Path) -> dict[str, tuple[int, int]]:
    return {
        str(file): (file.stat().st_size, file.stat().st_mtime_ns) for file in sorted(path.rglob("*")) if file.is_file()
    }


def test_searching_writes_nothing(folder: Path) -> None:
    before = {name: state for name, state in files(folder).items() if not name.endswith("lock.mdb")}
    with Index.open(folder, encoder=WordEncoder()) as index:
        index.search("amber", params=PROBED)
        assert index.search("amber", params=PROBED)[0].document.text
        assert "doc-3" in index
    assert {name: state for name, state in files(folder).items() if not name.endswith("lock.mdb")} == before


def test_a_folder_that_cannot_be_written_is_searched(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = files(folder)
    monkeypatch.setattr(os, "access", lambda path, mode, **_: mode != os.W_OK)
    with Index.open(folder, encoder=WordEncoder()) as index:
        assert index.search("rare77", k=1)[0].id == "doc-77"
        assert "doc-77" in index
    assert files(folder) == before


def test_memory_is_bounded_by_the_budget_and_reported_by_part(folder: Path) -> None:
    with Index.open(folder, encoder=WordEncoder(), memory="20MiB") as index:
        for word in WORDS:
            index.search(word, params=PROBED)
        stats = index.stats()
        assert stats.resident_bytes <= stats.budget == 20 << 20
        assert {"codebook", "postings", "offsets", "block_checksums", "cache arena"} <= set(stats.resident)
        assert stats.cache["hits"] > stats.cache["misses"] > 0
        assert (
            2 + 2 + 4 <= stats.record_bytes_per_token < 20
        )  # small segments: padding of the last chunk, index of a whole shard
        assert stats.as_dict()["resident_bytes"] == stats.resident_bytes


@pytest.mark.parametrize("memory", ["", "lots", "12XB", "-3MiB", "0"])
def test_a_size_that_is_none_is_refused(folder: Path, memory: str) -> None:
    with pytest.raises(ParameterError, match="memory"):
        Index.open(folder, memory=memory)


def test_many_threads_get_the_answers_of_one(folder: Path) -> None:
    with Index.open(folder, encoder=WordEncoder(), memory="20MiB") as index:
        queries = [index.encode_query(f"{a} {b}") for a in WORDS[:6] for b in WORDS[6:12]]
        alone = [index.search_vectors(query, params=PROBED) for query in queries]
        with ThreadPoolExecutor(8) as pool:
            together = list(pool.map(lambda query: index.search_vectors(query, params=PROBED), queries * 3))
    assert together == alone * 3


def _search_in_child(folder: Path, word: str) -> list[str]:
    with Index.open(folder, encoder=WordEncoder()) as index:
        return [hit.id for hit in index.search(word)]


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_other_processes_search_too(folder: Path, method: str) -> None:
    with multiprocessing.get_context(method).Pool(2) as pool:
        found = pool.starmap(_search_in_child, [(folder, word) for word in WORDS[:4]])
    assert found == [_search_in_child(folder, word) for word in WORDS[:4]]


def test_an_index_without_a_generation_is_not_built_yet(tmp_path: Path) -> None:
    def stop(_: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Index.build(tmp_path / "i", documents(5), WordEncoder(), progress=stop)
    with pytest.raises(IndexNotBuiltError, match="no index yet"):
        Index.open(tmp_path / "i")


def test_vectors_come_back_with_their_ids(tmp_path: Path) -> None:
    Index.build_from_vectors(tmp_path / "i", batches(50))
    with Index.open(tmp_path / "i") as index:
        hit = index.search_vectors(np.ones((1, 16), np.float32), k=1)[0]
        assert (hit.document.id, hit.document.text) == (hit.id, "")


def test_closing_twice_and_length(folder: Path) -> None:
    index = Index.open(folder)
    assert len(index) == 1500
    assert "1,500 documents" in repr(index)
    index.close()
    index.close()

"""An index through its life, against a dictionary: whatever happens in whatever order, its answers are those of its documents.

1. The model is a dictionary from id to document and to the scores that the index gave it when it was new.
2. A new document's scores are its exact MaxSim scores, but for what coding loses; from then on they never change by a bit,
   whatever is added, deleted or compacted around it.
3. A crash is an operation on a disk that fails, or tears a write, at some step, and at all that follow: afterwards the index is
   as before it or as after it, to the handle that was open and to one that is opened then.
4. A second handle stays at its generation until it is told to move.

`pytest tests/test_lifecycle.py --steps 100000` (`make lifecycle`) goes on for longer.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test
from numpy.typing import NDArray

from colindex import BuildParams, Document, Index, SearchParams
from colindex.change import tidy
from colindex.errors import DocumentNotFoundError, DuplicateIdError
from colindex.storage.verify import verify_index
from colindex.threads import INDEPENDENT
from tests.faults import Failure, FaultyOperations, fast_folder, using
from tests.words import WORDS, WordEncoder

STEPS_OF_A_LIFE = 50
IDS = [f"id-{number}" for number in range(12)]
KNOWN = WORDS[:20]
QUERIES = ["amber cedar", "delta", "kelp flint basin amber"]
CODED = 0.05
"""What eight bits may lose of a score."""
ROUNDED = 0 if INDEPENDENT else 1e-5
"""The reference kernels multiply matrices, and BLAS adds in an order that depends on their sizes."""

Scores = tuple[float, ...]


@dataclass(frozen=True)
class Known:
    """A document, and what it scores, query by query; None until the index has said it."""

    document: Document
    scores: Scores | None = None


Model = dict[str, Known]

texts = st.lists(st.sampled_from(KNOWN), max_size=6).map(" ".join)
documents = st.lists(
    st.builds(Document, id=st.sampled_from(IDS), text=texts), min_size=1, max_size=3, unique_by=lambda each: each.id
)
some_ids = st.lists(st.sampled_from(IDS), min_size=1, max_size=4, unique=True)
steps = st.one_of(
    st.tuples(st.just(()), st.integers(0, 150)),
    st.tuples(st.just(("write",)), st.integers(0, 50)),
    st.tuples(st.just(("create", "replace")), st.integers(0, 40)),
    st.tuples(st.just(("commit", "replace")), st.integers(0, 3)),
)


def with_these(model: Model, new: Iterable[Document]) -> Model:
    return model | {document.id: Known(document) for document in new}


def without(model: Model, ids: Iterable[str]) -> Model:
    return {id_: known for id_, known in model.items() if id_ not in set(ids)}


def checked(index: Index, model: Model) -> Model:
    """Hold every answer against the model; the model, with the scores of what is new."""
    found = [index.search(query, len(IDS) + 1, params=SearchParams(exact=True)) for query in QUERIES]
    by_query = [{hit.id: hit.score for hit in hits} for hits in found]
    assert [scores.keys() for scores in by_query] == [model.keys()] * len(QUERIES)
    assert {hit.id: hit.document for hit in found[0]} == {id_: known.document for id_, known in model.items()}
    assert len(index) == len(model)
    learned = {}
    for id_, known in model.items():
        scores = tuple(each[id_] for each in by_query)
        if known.scores is None:
            assert scores == pytest.approx(exact_scores(known.document.text), abs=CODED)
        else:
            assert scores == pytest.approx(known.scores, rel=0, abs=ROUNDED)
        learned[id_] = replace(known, scores=scores)
    return learned


@cache
def exact_scores(text: str) -> Scores:
    """MaxSim with the encoder's own vectors."""
    tokens = vectors(text)
    return tuple(float((vectors(query) @ tokens.T).max(1).sum()) if len(tokens) else -np.inf for query in QUERIES)


@cache
def vectors(text: str) -> NDArray[np.float32]:
    return WordEncoder().encode_query(text)


@cache
def beginning() -> Path:
    """An index with a codebook that knows all words; each life begins with a copy."""
    path = Path(tempfile.mkdtemp(dir=fast_folder()), "index")
    Index.build(path, first_documents(), WordEncoder(), BuildParams(bits=8, segment_tokens=8, threads=1))
    return path


def first_documents() -> list[Document]:
    return [Document(id=id_, text=" ".join(KNOWN[at : at + 5])) for id_, at in zip(IDS, range(0, 20, 5), strict=False)]


class Life(RuleBasedStateMachine):
    """One index, a handle that changes it, and a reader that stays behind."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(dir=fast_folder()))
        self.path = Path(shutil.copytree(beginning(), self.folder / "index"))
        self.index, self.reader = self.opened(), self.opened()
        self.model = checked(self.index, with_these({}, first_documents()))
        self.seen = self.model

    def teardown(self) -> None:
        self.index.close()
        self.reader.close()
        try:
            tidy(self.path)
            assert verify_index(self.path) == []
        finally:
            shutil.rmtree(self.folder)

    def opened(self) -> Index:
        return Index.open(self.path, encoder=WordEncoder(), memory="64MiB")

    # ---- changes

    @rule(new=documents)
    def add(self, new: Sequence[Document]) -> None:
        if taken := [document.id for document in new if document.id in self.model]:
            with pytest.raises(DuplicateIdError, match=taken[0]):
                self.index.add(new)
        new = [document for document in new if document.id not in self.model]
        if new:
            report = self.index.add(new)
            assert (report.added, report.replaced, report.deleted) == (len(new), 0, 0)
        self.model = checked(self.index, with_these(self.model, new))

    @rule(new=documents)
    def upsert(self, new: Sequence[Document]) -> None:
        report = self.index.upsert(new)
        replaced = sum(document.id in self.model for document in new)
        assert (report.added, report.replaced, report.deleted) == (len(new) - replaced, replaced, 0)
        self.model = checked(self.index, with_these(self.model, new))

    @rule(ids=some_ids)
    def delete(self, ids: Sequence[str]) -> None:
        if missing := [id_ for id_ in ids if id_ not in self.model]:
            with pytest.raises(DocumentNotFoundError, match=missing[0]):
                self.index.delete(ids)
        assert self.index.delete(ids, missing_ok=True).deleted == len(ids) - len(missing)
        self.model = checked(self.index, without(self.model, ids))

    @rule(full=st.booleans())
    def compact(self, full: bool) -> None:
        self.index.compact(full=full)
        checked(self.index, self.model)
        assert not full or self.index.stats().deleted == 0

    @rule(new=documents, step=steps, torn=st.booleans())
    def crash_of_an_upsert(self, new: Sequence[Document], step: tuple[Sequence[str], int], torn: bool) -> None:
        self.crash(lambda: self.index.upsert(new), with_these(self.model, new), step, torn)

    @rule(ids=some_ids, step=steps, torn=st.booleans())
    def crash_of_a_delete(self, ids: Sequence[str], step: tuple[Sequence[str], int], torn: bool) -> None:
        self.crash(lambda: self.index.delete(ids, missing_ok=True), without(self.model, ids), step, torn)

    @rule(full=st.booleans(), step=steps, torn=st.booleans())
    def crash_of_a_compaction(self, full: bool, step: tuple[Sequence[str], int], torn: bool) -> None:
        self.crash(lambda: self.index.compact(full=full), self.model, step, torn)

    def crash(self, act: Callable[[], object], after: Model, step: tuple[Sequence[str], int], torn: bool) -> None:
        generation = self.index.manifest.generation
        disk = FaultyOperations(step[1], torn=torn, dead=True, kinds=step[0])
        with using(disk), suppress(Failure):
            act()
        moved = self.index.manifest.generation > generation
        assert moved or disk.failed or after.keys() == self.model.keys()
        checked(self.index, after if moved else self.model)
        with self.opened() as fresh:
            self.model = checked(fresh, after if fresh.manifest.generation > generation else self.model)
        self.index.reopen()
        checked(self.index, self.model)

    # ---- readers

    @rule()
    def open_again(self) -> None:
        self.index.close()
        self.index = self.opened()
        checked(self.index, self.model)

    @rule()
    def move_the_reader(self) -> None:
        newer = self.reader.manifest.generation < self.index.manifest.generation
        assert self.reader.reopen() == newer
        self.seen = self.model

    @rule()
    def read_an_old_generation(self) -> None:
        checked(self.reader, self.seen)
        assert [id_ in self.reader for id_ in IDS] == [id_ in self.seen for id_ in IDS]

    @rule(
        query=st.integers(0, len(QUERIES) - 1),
        k=st.integers(1, len(IDS)),
        ids=st.none() | some_ids,
        exact=st.booleans(),
    )
    def search(self, query: int, k: int, ids: Sequence[str] | None, exact: bool) -> None:
        may = self.model if ids is None else {id_: self.model[id_] for id_ in ids if id_ in self.model}
        scores = {id_: known.scores[query] for id_, known in may.items() if known.scores is not None}
        hits = self.index.search(QUERIES[query], k, ids=ids, params=SearchParams(exact=exact))
        assert [hit.score for hit in hits] == pytest.approx(
            sorted(scores.values(), reverse=True)[:k], rel=0, abs=ROUNDED
        )
        assert {hit.id: hit.score for hit in hits} == pytest.approx(
            {hit.id: scores[hit.id] for hit in hits}, rel=0, abs=ROUNDED
        )

    @rule()
    def verify(self) -> None:
        assert [finding for finding in verify_index(self.path) if not finding.harmless] == []


@pytest.fixture
def no_folder_left() -> Iterator[None]:
    yield
    shutil.rmtree(beginning().parent)
    beginning.cache_clear()


@pytest.mark.usefixtures("no_folder_left")
def test_an_index_lives_as_a_dictionary(request: pytest.FixtureRequest) -> None:
    lives = request.config.getoption("steps") // STEPS_OF_A_LIFE
    run_state_machine_as_test(
        Life,
        settings=settings(
            max_examples=lives,
            stateful_step_count=STEPS_OF_A_LIFE,
            phases=[Phase.generate],  # to make a life that failed shorter would take longer than CI waits
            suppress_health_check=list(HealthCheck),
        ),
    )

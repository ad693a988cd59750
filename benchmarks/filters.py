"""Filters: are the answers right, how much recall and time do they cost, from half of a collection to one document in 10,000?

    python -m benchmarks.filters ~/vectors/scifact ~/vectors/wiki20k --scratch ~/filters

1. Each document gets metadata, most of them by lot: a language, a year, a list of tags; and a topic, the nearest of ten
   documents by mean vector, so that the documents of one topic lie together, and far from most queries. The vectors, brought
   to 128 dimensions as if the encoder gave so many, are indexed with it.
2. *Right*: which documents meet a condition is decided in Python. The exact answers within a filter have to be those of an exact
   ranking of the whole collection, restricted to these documents: the same ids in the same order, the same scores to the bit;
   and the same whether the documents are named by `where=` or by `ids=`.
3. *Recall*: of the best ten documents within the filter by float32 MaxSim over the vectors themselves: by the default search,
   and by one that scores every record (what is lost there, the codes lose).
4. *Time*: default searches, without a filter and with each of them in turn, query by query: a condition that is new to the
   index, one that is kept, and the same documents as `ids=`.

Writes benchmarks/results/filters.json.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.growth_data import pca, projected
from benchmarks.quality import exact_top, recall
from benchmarks.vectors import Vectors, load
from colindex import BuildParams, Document, Index, SearchParams, TokenBatch

K, DIM, SEED = 10, 128, 0
MEMORY = "2GiB"
LANGUAGES, YEARS, TOPICS = ("en", "de", "fr", "pl"), 100, 10
RARE = 10_000
"""One document in so many has the tag `rare`."""
EXACT, DEFAULT = SearchParams(exact=True), SearchParams(exact=False)
RESULTS = Path(__file__).parent / "results"

Metadata = Mapping[str, Any]
Queries = Sequence[NDArray[np.float32]]
Answers = list[list[tuple[str, float]]]
Times = tuple[float, float, float]
"""p50 and p95 of some searches in milliseconds, and the p50 of the processor's time, which a busy machine changes less."""


@dataclass(frozen=True, slots=True)
class Filter:
    """A condition, and what it means."""

    name: str
    where: str | None
    means: Callable[[Metadata], bool]


UNFILTERED = Filter("all", None, lambda row: True)
FILTERS = (
    Filter("50 %", "lang = 'en'", lambda row: row["lang"] == "en"),
    Filter("10 %", "year >= 1990", lambda row: row["year"] >= 1990),
    Filter("a topic", "topic = 3", lambda row: row["topic"] == 3),
    Filter("5 %", "year BETWEEN 1990 AND 1994", lambda row: 1990 <= row["year"] <= 1994),
    Filter("1 %", "year = 1984", lambda row: row["year"] == 1984),
    Filter("0.01 %", "EXISTS (SELECT 1 FROM json_each(tags) WHERE value = 'rare')", lambda row: "rare" in row["tags"]),
    Filter("none", "year > 3000", lambda row: row["year"] > 3000),
)


# ---- a collection with metadata


def described(docs: Vectors) -> list[dict[str, Any]]:
    """Metadata of each document, the same each time: half are `en`, a hundredth of each year, one in 10,000 `rare`."""
    rng, count = np.random.default_rng(SEED), len(docs.ids)
    half = -(-count // 2)
    languages = np.array([LANGUAGES[0] if place < half else LANGUAGES[1 + place % 3] for place in range(count)])
    years = 1900 + np.arange(count) % YEARS
    rare = np.arange(count) < max(1, round(count / RARE))
    languages, years, rare = (rng.permutation(values) for values in (languages, years, rare))
    tags = [[f"tag{number}" for number in rng.choice(50, rng.integers(0, 4), replace=False)] for _ in range(count)]
    return [
        {"lang": str(lang), "year": int(year), "tags": [*some, "rare"] if is_rare else some, "topic": int(topic)}
        for lang, year, some, is_rare, topic in zip(languages, years, tags, rare, topics(docs, rng), strict=True)
    ]


def topics(docs: Vectors, rng: np.random.Generator) -> NDArray[np.int64]:
    """The nearest of ten documents, by mean vector."""
    means = np.zeros((len(docs.ids), docs.vectors.shape[1]), np.float32)
    for number, (start, stop) in enumerate(zip(docs.offsets[:-1], docs.offsets[1:], strict=True)):
        if start < stop:
            means[number] = docs.vectors[start:stop].mean(axis=0, dtype=np.float32)
            means[number] /= np.linalg.norm(means[number])
    centers = means[rng.choice(np.flatnonzero(np.diff(docs.offsets)), TOPICS, replace=False)]
    nearest: NDArray[np.int64] = np.argmax(means @ centers.T, axis=1)
    return nearest


class Replayed:
    """What a build needs of an encoder: it gives each document the vectors that it has already."""

    name, pools_tokens, max_document_tokens = "replayed", False, 1 << 20

    def __init__(self, docs: Vectors) -> None:
        self._docs, self._places = docs, {id_: place for place, id_ in enumerate(docs.ids)}
        self.dim = docs.vectors.shape[1]

    @property
    def fingerprint(self) -> Mapping[str, Any]:
        """Nobody opens such an index with another one."""
        return {"kind": self.name, "dim": self.dim}

    def encode_documents(self, documents: Sequence[Document]) -> TokenBatch:
        """Look the vectors up by id."""
        places = [self._places[document.id] for document in documents]
        bounds = [(int(self._docs.offsets[place]), int(self._docs.offsets[place + 1])) for place in places]
        return TokenBatch(
            ids=tuple(document.id for document in documents),
            vectors=np.concatenate([self._docs.vectors[start:stop] for start, stop in bounds]),
            offsets=np.cumsum([0, *(stop - start for start, stop in bounds)]),
            token_ids=np.concatenate([self._docs.token_ids[start:stop] for start, stop in bounds]),
        )


def build(folder: Path, docs: Vectors, metadata: Sequence[Metadata]) -> None:
    """Index the documents with their metadata; their texts have as many words as they have vectors, for estimates of size."""
    lengths = np.diff(docs.offsets).tolist()
    documents = (
        Document(id=id_, text="abc " * length, metadata=row)
        for id_, length, row in zip(docs.ids, lengths, metadata, strict=True)
    )
    Index.build(folder, documents, Replayed(docs), BuildParams())


# ---- what is right


def rankings(index: Index, queries: Queries) -> Answers:
    """Every document with its score, exactly, without a filter."""
    return _pairs(index.search_vectors_batch(queries, len(index), params=EXACT))


def within(answers: Answers, allowed: set[str], k: int) -> Answers:
    """The k first of each ranking that are in the filter: what a filtered search has to give."""
    return [[pair for pair in ranking if pair[0] in allowed][:k] for ranking in answers]


def differing(index: Index, queries: Queries, chosen: Filter, allowed: set[str], ranked: Answers) -> int:
    """Queries whose exact answers within the filter, by `where=` or by `ids=`, are others than they have to be, to the bit."""
    expected = within(ranked, allowed, K)
    by_where = _pairs(index.search_vectors_batch(queries, K, params=EXACT, where=chosen.where))
    by_ids = _pairs(index.search_vectors_batch(queries, K, params=EXACT, ids=allowed))
    return sum(not a == b == c for a, b, c in zip(expected, by_where, by_ids, strict=True))


def _pairs(answers: Sequence[Sequence[Any]]) -> Answers:
    return [[(hit.id, hit.score) for hit in hits] for hits in answers]


# ---- what it costs


@dataclass(frozen=True, slots=True)
class Row:
    """One filter on one collection; times are those of default searches."""

    filter: str
    where: str | None
    documents: int
    checked: int
    """Queries whose exact answers were compared."""
    differing: int
    """How many of those were not the restricted ranking, to the bit."""
    recall: float | None
    """Of the best ten within the filter, by the default search; None where there are none."""
    recall_exact: float | None
    """The same where every record is scored."""
    refined: float
    """Documents that a default search scored, on average."""
    kept_ms: Times
    """With a condition that the index has met; of searching without a filter, without one."""
    new_ms: Times | None = None
    """With a condition that it has not."""
    ids_ms: Times | None = None
    """With the same documents as `ids=`."""


def measured(
    folder: Path,
    queries: Queries,
    ids: Sequence[str],
    metadata: Sequence[Metadata],
    tops: Sequence[Sequence[str]],
    checked: int,
) -> list[Row]:
    """Stages 2 to 4; the first row is that of searching without a filter. `tops` ranks all documents by float32 MaxSim."""
    allowed = {each.name: {id_ for id_, row in zip(ids, metadata, strict=True) if each.means(row)} for each in FILTERS}
    with Index.open(folder, memory=MEMORY) as index:
        ranked = rankings(index, queries[:checked])
        times = timed(index, queries, allowed)
        return [
            _row(index, queries, each, allowed.get(each.name, set(ids)), ranked, tops, times)
            for each in (UNFILTERED, *FILTERS)
        ]


def _row(
    index: Index,
    queries: Queries,
    chosen: Filter,
    allowed: set[str],
    ranked: Answers,
    tops: Sequence[Sequence[str]],
    times: Mapping[str, Times],
) -> Row:
    answers = [index.search_vectors_with_stats(query, K, params=DEFAULT, where=chosen.where) for query in queries]
    exact = index.search_vectors_batch(queries, K, params=EXACT, where=chosen.where)
    found, found_exact = ([[hit.id for hit in hits] for hits in each] for each in ([a for a, _ in answers], exact))
    best = [[id_ for id_ in top if id_ in allowed][:K] for top in tops]
    assert all(len(hits) == min(K, len(allowed)) for hits in found), f"{chosen.where}: too few or too many hits"
    return Row(
        filter=chosen.name,
        where=chosen.where,
        documents=len(allowed),
        checked=len(ranked),
        differing=differing(index, queries[: len(ranked)], chosen, allowed, ranked),
        recall=recall(found, best) if allowed else None,
        recall_exact=recall(found_exact, best) if allowed else None,
        refined=float(np.mean([stats.candidates for _, stats in answers])),
        kept_ms=times[chosen.name],
        new_ms=times.get(f"{chosen.name}, new"),
        ids_ms=times.get(f"{chosen.name}, ids"),
    )


def timed(index: Index, queries: Queries, allowed: Mapping[str, set[str]]) -> dict[str, Times]:
    """Times of all ways to ask, which take turns. Each asks twice; the second, with what it reads in the cache, counts."""
    spent: dict[str, list[tuple[float, float]]] = {}
    for number, query in enumerate(queries):
        ways: dict[str, tuple[Mapping[str, Any], Mapping[str, Any]]] = {UNFILTERED.name: ({}, {})}
        for each in FILTERS:
            kept, listed = {"where": each.where}, {"ids": allowed[each.name]}
            ways[each.name] = (kept, kept)
            ways[f"{each.name}, new"] = (kept, {"where": f"{each.where} AND {number} >= 0"})
            ways[f"{each.name}, ids"] = (listed, listed)
        for name, (first, second) in ways.items():
            index.search_vectors(query, K, params=DEFAULT, **first)
            start, worked = time.perf_counter(), time.process_time()
            index.search_vectors(query, K, params=DEFAULT, **second)
            spent.setdefault(name, []).append((time.perf_counter() - start, time.process_time() - worked))
    times = {}
    for name, of_way in spent.items():
        walls, works = 1000 * np.array(of_way).T
        times[name] = (float(np.median(walls)), float(np.percentile(walls, 95)), float(np.median(works)))
    return times


# ---- what comes out


def collection(vectors: Path, scratch: Path, query_count: int, checked: int) -> dict[str, Any]:
    """All of it, for one collection; its index stays in the scratch folder, and is built once."""
    docs = load(vectors / "docs.npz")
    projection = pca(docs, DIM)
    docs, asked = projected(docs, projection), projected(load(vectors / "queries.npz").first(query_count), projection)
    queries, metadata = asked.each(), described(docs)
    folder = scratch / f"filters-{vectors.name}.colindex"
    if not folder.exists():
        unfinished = folder.with_suffix(".building")
        shutil.rmtree(unfinished, ignore_errors=True)
        build(unfinished, docs, metadata)
        unfinished.rename(folder)
    tops = [
        [docs.ids[number] for number in row] for row in exact_top(docs.vectors, docs.offsets, queries, len(docs.ids))
    ]
    rows = measured(folder, queries, docs.ids, metadata, tops, checked)
    sizes = {"documents": len(docs.ids), "tokens": len(docs.vectors), "queries": len(queries)}
    return {"name": vectors.name, **sizes, "rows": [asdict(row) for row in rows]}


def show(console: Console, found: Mapping[str, Any]) -> None:
    """A table of one collection."""
    sizes = f"{found['documents']:,} documents, {found['tokens']:,} vectors, {found['queries']:,} queries"
    title = f"{found['name']}: {sizes}; ms are p50, p95 (p50 of the processor's)"
    columns = ("filter", "documents", "exact answers that differ", "recall", "... every record scored", "refined")
    table = Table(*columns, "ms", "ms, new condition", "ms, ids=", title=title)
    for row in found["rows"]:
        differs = f"{row['differing']} of {row['checked']}"
        recalls = ["" if share is None else f"{share:.4f}" for share in (row["recall"], row["recall_exact"])]
        spent = [
            "" if ms is None else "{:.2f}, {:.2f} ({:.2f})".format(*ms)
            for ms in (row["kept_ms"], row["new_ms"], row["ids_ms"])
        ]
        table.add_row(row["filter"], f"{row['documents']:,}", differs, *recalls, f"{row['refined']:.0f}", *spent)
    console.print(table)


@click.command()
@click.argument("vectors", type=click.Path(exists=True, path_type=Path), nargs=-1, required=True)
@click.option("--scratch", type=click.Path(path_type=Path), required=True, help="Folder for the indexes.")
@click.option("--queries", "query_count", default=100, show_default=True)
@click.option("--checked", default=20, show_default=True, help="Queries whose exact answers are compared.")
@click.option("--output", type=click.Path(path_type=Path), default=RESULTS / "filters.json", show_default=True)
def main(vectors: tuple[Path, ...], scratch: Path, query_count: int, checked: int, output: Path) -> None:
    """Measure filters on some collections."""
    scratch.mkdir(parents=True, exist_ok=True)
    console, found = Console(width=180), []
    for each in vectors:
        found.append(collection(each, scratch, query_count, checked))
        show(console, found[-1])
    output.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()

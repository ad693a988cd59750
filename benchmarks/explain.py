"""Does `explain_missing` agree with the pipeline, and does its advice bring the document in?

    python -m benchmarks.explain ~/vectors/scifact --scratch ~/explain
    python -m benchmarks.explain ~/vectors/scifact --scratch ~/explain --pairs 100    (a quick look)

1. *Build* an index of the collection, kept in the scratch folder.
2. *Draw* pairs of a query and a document: half of any document, half of those that deserve a place or nearly so: ranks 1 to
   200 of the query's exact ranking, as many from 1 to 14 as from 15 to 200. Low settings lose many. `SETTINGS` take turns.
3. *Find* the stage that lost the document, without the explanation's help: is it in the answer, was it refined, was it a
   candidate, does any probed centroid hold one of its vectors?
4. *Compare* what the explanation says of it: stage, score, rank, k-th score, and the probes with which each query token
   meets it.
5. *Follow* the settings that it names: those that would refine it do, those that it advises return it. Where it
   advises none, k documents of the exact ranking come before this one.

Whatever does not hold is printed, and the exit code is 1.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.vectors import load
from colindex import BuildParams, Explanation, Index, SearchParams
from colindex.fetched import fetch
from colindex.kernels.chosen import top_centroids
from colindex.ranked import Ranked
from colindex.search import Snapshot, candidates, search_exact, traced

GOOD = 200
"""Exact ranks of the second half, evenly in their logarithm."""
SETTINGS = (
    (10, SearchParams(exact=False)),
    (10, SearchParams(exact=False, nprobe=4, candidates=24, margin=1.0)),
    (10, SearchParams(exact=False, nprobe=1, candidates=24, margin=0.0)),
    (10, SearchParams(exact=False, nprobe=16, candidates=2048, margin=0.0)),
    (100, SearchParams(exact=False, nprobe=2, candidates=200, margin=0.5)),
    (1, SearchParams(exact=False, nprobe=8, candidates=16, margin=0.0)),
    (50, SearchParams(exact=True)),
)
KINDS = ("returned", "refined lower", "given up", "beyond candidates", "not met")
RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True, slots=True)
class Asked:
    """A query, and what is true of it whatever the settings."""

    vectors: NDArray[np.float32]
    projected: NDArray[np.float32]
    exact: Ranked
    """All documents."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A query, a document and settings."""

    drawn: str
    """`any` or `good`."""
    asked: Asked
    document: int
    """Its number."""
    id: str
    k: int
    params: SearchParams


@dataclass(frozen=True, slots=True)
class Checked:
    """What came of one pair."""

    drawn: str
    kind: str
    advised: bool
    exact_rank: int
    k: int
    seconds: float
    """That the explanation took."""
    violations: tuple[str, ...]


# ---- 2. Draw


def draw(snapshot: Snapshot, queries: list[NDArray[np.float32]], ids: tuple[str, ...], pairs: int) -> Iterator[Pair]:
    """The pairs, those of a query together: its exact ranking is found once."""
    rng, drawn = np.random.default_rng(0), 0
    for number, vectors in enumerate(queries):
        projected = snapshot.codebook.project(vectors)
        (exact,), _ = search_exact(snapshot, [projected], len(ids), snapshot.live)
        asked = Asked(vectors, projected, exact)
        for _ in range(pairs * (number + 1) // len(queries) - drawn):
            good = drawn % 2 == 1
            rank = int(GOOD ** rng.random()) if good else int(rng.integers(len(ids))) + 1
            document = int(exact.documents[rank - 1])
            k, params = SETTINGS[drawn // 2 % len(SETTINGS)]
            yield Pair("good" if good else "any", asked, document, ids[document], k, params)
            drawn += 1


# ---- 3. Find the stage


def refined(snapshot: Snapshot, pair: Pair, params: SearchParams) -> bool:
    """Whether a search with some settings scores the document."""
    if params.exact:
        return True
    search = traced(snapshot, pair.asked.projected, pair.k, params, snapshot.live)
    return pair.document in search.estimated.documents[: search.refined]


def stage(snapshot: Snapshot, pair: Pair, answer: list[str]) -> str:
    """Where the pipeline lost it."""
    if pair.id in answer:
        return "returned"
    if refined(snapshot, pair, pair.params):
        return "refined lower"
    search = traced(snapshot, pair.asked.projected, pair.k, pair.params, snapshot.live)
    if pair.document in search.estimated.documents:
        return "given up"
    nprobe = pair.params.nprobe
    while len(candidates(snapshot, pair.asked.projected, nprobe, pair.k, snapshot.live)) < pair.k:
        nprobe *= 4  # as a search does that has met too few documents
    met = np.isin(centroids(snapshot, pair.document), probed(snapshot, pair, nprobe)).any()
    return "beyond candidates" if met else "not met"


def probed(snapshot: Snapshot, pair: Pair, nprobe: int) -> NDArray[np.int32]:
    """The centroids that are probed for each query token, best first."""
    return top_centroids(pair.asked.projected, snapshot.codebook.probes, nprobe)[0]


def centroids(snapshot: Snapshot, document: int) -> NDArray[np.uint32]:
    """Of a document's vectors."""
    return fetch(snapshot, np.array([document])).centroids(0)


# ---- 4. Compare, and 5. follow


def check(index: Index, snapshot: Snapshot, pair: Pair) -> Checked:
    """Ask about one pair, and hold the explanation against the pipeline."""
    start = time.perf_counter()
    found = index.explain_missing(pair.asked.vectors, pair.id, pair.k, params=pair.params)
    seconds = time.perf_counter() - start
    hits = index.search_vectors(pair.asked.vectors, pair.k, params=pair.params)
    exact_rank = int(np.flatnonzero(pair.asked.exact.documents == pair.document)[0]) + 1
    violations = (
        *_compared(snapshot, pair, found, [(hit.id, hit.score) for hit in hits], exact_rank),
        *_followed(index, snapshot, pair, found, exact_rank),
    )
    return Checked(pair.drawn, found.kind, found.advice is not None, exact_rank, pair.k, seconds, violations)


def _compared(
    snapshot: Snapshot, pair: Pair, found: Explanation, answer: list[tuple[str, float]], exact_rank: int
) -> Iterator[str]:
    ids = [id_ for id_, _ in answer]
    lost = stage(snapshot, pair, ids)
    if found.kind != lost:
        yield f"is {lost}"
    if found.score != float(pair.asked.exact.scores[exact_rank - 1]):
        yield f"scores {pair.asked.exact.scores[exact_rank - 1]}"
    if found.kth != answer[-1][1]:
        yield f"k-th score is {answer[-1][1]}"
    if lost == "returned" and found.rank != ids.index(pair.id) + 1:
        yield f"returned at rank {ids.index(pair.id) + 1}"
    own = centroids(snapshot, pair.document)
    every = probed(snapshot, pair, snapshot.codebook.n_centroids)
    nearest = [int(np.flatnonzero(np.isin(row, own))[0]) + 1 for row in every]
    if any(
        reach.nprobe < rank for reach, rank in zip(found.reach, nearest, strict=True)
    ):  # few probes look at some alone
        yield "query tokens meet it with more probes"


def _followed(index: Index, snapshot: Snapshot, pair: Pair, found: Explanation, exact_rank: int) -> Iterator[str]:
    lost = found.kind in ("given up", "beyond candidates", "not met")
    if lost != (found.would_refine is not None):
        yield "settings that refine it are named where it was refined, or not where it was not"
    if found.would_refine is not None and not refined(snapshot, pair, found.would_refine):
        yield "is not refined with the settings that are named"
    if found.advice is not None:
        followed = index.search_vectors(pair.asked.vectors, pair.k, params=found.advice)
        if pair.id not in [hit.id for hit in followed]:
            yield "is not returned with the settings that are advised"
    elif found.kind != "returned" and exact_rank <= pair.k:
        yield "nothing is advised, but its score deserves a place"


# ---- what comes out


def counted(done: list[Checked]) -> dict[str, Any]:
    """By stage and by how pairs were drawn."""
    rows = {}
    for kind in KINDS:
        of_kind = [one for one in done if one.kind == kind]
        draws = Counter(one.drawn for one in of_kind)
        rows[kind] = {
            "any": draws["any"], "good": draws["good"], "advised": sum(one.advised for one in of_kind),
            "deserving": sum(one.exact_rank <= one.k for one in of_kind),
            "violations": sum(bool(one.violations) for one in of_kind),
        }  # fmt: skip
    milliseconds = [1000 * one.seconds for one in done]
    return {
        "pairs": len(done),
        "settings": [{"k": k, **asdict(params)} for k, params in SETTINGS],
        "stages": rows,
        "violations": sum(bool(one.violations) for one in done),
        "median_ms": float(np.median(milliseconds)),
        "p95_ms": float(np.percentile(milliseconds, 95)),
    }


def show(console: Console, found: dict[str, Any]) -> None:
    """A line a stage."""
    table = Table(
        "stage", "any", "good", "deserving", "advised", "violations",
        title=f"{found['pairs']:,} explanations held against the pipeline",
        caption="deserving: among the k best of the exact ranking; advised: settings that bring it in",
    )  # fmt: skip
    for kind, row in found["stages"].items():
        table.add_row(kind, *(f"{row[name]:,}" for name in ("any", "good", "deserving", "advised", "violations")))
    console.print(table)
    console.print(f"{found['median_ms']:.1f} ms an explanation (median), {found['p95_ms']:.1f} ms (95th percentile)")


def built(scratch: Path, vectors: Path, dim: int) -> Path:
    """The index; it is built once."""
    folder = scratch / f"explain-{dim}.colindex"
    if not folder.exists():
        Index.build_from_vectors(folder, load(vectors / "docs.npz").batches(), BuildParams(dim=dim))
    return folder


@click.command(help=__doc__)
@click.argument("vectors", type=click.Path(exists=True, path_type=Path))
@click.option("--scratch", type=click.Path(path_type=Path), required=True, help="Folder for the index.")
@click.option("--pairs", default=1000, show_default=True)
@click.option("--queries", default=100, show_default=True, help="That the pairs are shared out over.")
@click.option("--dim", default=128, show_default=True)
@click.option("--output", type=click.Path(path_type=Path), default=RESULTS / "explain.json", show_default=True)
def main(vectors: Path, scratch: Path, pairs: int, queries: int, dim: int, output: Path) -> None:
    """Ask, check, count."""
    scratch.mkdir(parents=True, exist_ok=True)
    folder, console, done = built(scratch, vectors, dim), Console(), []
    ids = load(vectors / "docs.npz").ids
    with Index.open(folder, memory="1GiB") as index:
        snapshot = index._open.snapshot  # the stages by themselves are no public names
        for pair in draw(snapshot, load(vectors / "queries.npz").first(queries).each(), ids, pairs):
            done.append(check(index, snapshot, pair))
            for violation in done[-1].violations:
                console.print(f"{pair.id} for {pair.k} with {pair.params}: {done[-1].kind}, but {violation}.")
    found = counted(done)
    show(console, found)
    output.write_text(json.dumps(found, indent=1) + "\n")
    sys.exit(1 if found["violations"] else 0)


if __name__ == "__main__":
    main()

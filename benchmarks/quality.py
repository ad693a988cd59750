"""Quality through the whole pipeline, against exact MaxSim on the same vectors and against qrels.

    python -m benchmarks.quality ~/vectors/scifact --qrels ../shared/data/scifact/qrels/test.tsv --dim 128 --bits 2 --bits 4

For each setting: build from vectors (time, bytes a token), then
- `index exact`: every document scored on decoded records; what is lost is the codec's part;
- `default`: probing, gathering, adaptive refinement; what is lost beyond that is the candidates' part;
- recall of the exact top 10 = share of the top 10 of float32 MaxSim over the vectors before coding (after PCA, if any).

`--candidates` adds the share of the exact top 10 among the first C gathered documents at the default nprobe.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.vectors import Vectors, load
from colindex import BuildParams, Index, SearchParams
from colindex.codebook import Codebook
from colindex.evaluate import measure, percentiles, read_qrels
from colindex.ranked import Ranked
from colindex.search import candidates as gather_candidates
from colindex.storage.layout import codebook_path
from colindex.storage.plain import read_arrays

Qrels = Mapping[str, Mapping[str, int]]
DEPTHS = (64, 128, 256, 512, 1024)
TOKENS_AT_ONCE = 8192


def exact_top(
    documents: NDArray[np.floating], offsets: NDArray[np.int64], queries: Sequence[NDArray[np.float32]], k: int
) -> list[NDArray[np.int64]]:
    """The k best documents of each query by float32 MaxSim over all vectors."""
    scores = exact_scores(documents, offsets, queries)
    numbers = np.arange(scores.shape[1])
    return [Ranked.best(numbers, row, k).documents for row in scores]


def exact_scores(
    documents: NDArray[np.floating], offsets: NDArray[np.int64], queries: Sequence[NDArray[np.float32]]
) -> NDArray[np.float32]:
    """The float32 MaxSim of each query with each document, [queries, documents]: one BLAS product a block of documents."""
    stacked = np.concatenate(queries)
    edges = np.concatenate([[0], np.cumsum([len(query) for query in queries])])[:-1]
    scores = np.full((len(queries), len(offsets) - 1), -np.inf, np.float32)
    begin = 0
    while begin < len(offsets) - 1:
        stop = max(begin + 1, int(np.searchsorted(offsets, offsets[begin] + TOKENS_AT_ONCE, side="right")) - 1)
        kept = np.flatnonzero(np.diff(offsets[begin : stop + 1]))  # documents with tokens
        similarities = stacked @ documents[offsets[begin] : offsets[stop]].astype(np.float32).T
        best = np.maximum.reduceat(similarities, offsets[begin:stop][kept] - offsets[begin], axis=1)
        scores[:, begin + kept] = np.add.reduceat(best, edges, axis=0)
        begin = stop
    return scores


def build(folder: Path, docs: Vectors, params: BuildParams) -> tuple[float, Mapping[str, float]]:
    """Build and time."""
    start = time.perf_counter()
    report = Index.build_from_vectors(folder, docs.batches(), params)
    return time.perf_counter() - start, report.seconds


def stored_space(folder: Path) -> Codebook:
    """The codebook of an index."""
    with Index.open(folder, memory="4GiB") as index:
        return Codebook.from_arrays(*read_arrays(codebook_path(folder, index.manifest.codebook)))


def recall(found: Sequence[Sequence[str]], exact: Sequence[Sequence[str]]) -> float:
    """Mean share of each query's exact documents that were found."""
    return float(np.mean([len(set(a) & set(b)) / len(b) for a, b in zip(found, exact, strict=True)]))


def candidate_shares(
    folder: Path, queries: Sequence[NDArray[np.float32]], exact: Sequence[Sequence[str]]
) -> dict[int, float]:
    """Share of the exact top 10 among the first C gathered documents, by C."""
    shares: dict[int, list[float]] = {depth: [] for depth in DEPTHS}
    with Index.open(folder, memory="4GiB") as index:
        snapshot = index._open.snapshot
        for query, wanted in zip(queries, exact, strict=True):
            projected = snapshot.codebook.project(query)
            gathered = gather_candidates(snapshot, projected, SearchParams().nprobe, max(DEPTHS), snapshot.live)
            places = map(snapshot.locate, gathered.documents.tolist())
            names = [snapshot.segments[segment].external_ids([number])[0] for segment, number in places]
            for depth, values in shares.items():
                values.append(len(set(names[:depth]) & set(wanted)) / len(wanted))
    return {depth: float(np.mean(values)) for depth, values in shares.items()}


@click.command()
@click.argument("vectors", type=click.Path(exists=True, path_type=Path))
@click.option("--qrels", type=click.Path(exists=True, path_type=Path))
@click.option("--dim", type=int)
@click.option("--bits", type=int, multiple=True, default=(2, 4), show_default=True)
@click.option("--pool-factor", type=int, multiple=True, default=(1,), show_default=True)
@click.option("--candidates", is_flag=True)
@click.option("--queries", "limit", type=int, help="Take the first so many queries only.")
@click.option("--exact-queries", type=int, help="Score every record for this many queries only; it takes long.")
@click.option("--memory", default="4GiB", show_default=True)
def main(
    vectors: Path,
    qrels: Path | None,
    dim: int | None,
    bits: tuple[int, ...],
    pool_factor: tuple[int, ...],
    candidates: bool,
    limit: int | None,
    exact_queries: int | None,
    memory: str,
) -> None:
    """Measure a collection's vectors at several settings."""
    docs, queries = load(vectors / "docs.npz"), load(vectors / "queries.npz").first(limit)
    judged = None if qrels is None else {q: d for q, d in read_qrels(qrels).items() if q in set(queries.ids)}
    table = Table("bits", "pool", "search", "nDCG@10", "recall@100", "mrr@10", "recall of exact top 10", "refined",
                  "p50 ms", "bytes/token", "build s")  # fmt: skip
    console = Console(width=160)
    folder = Path(tempfile.mkdtemp(dir=vectors)) / "index"
    exact: list[list[str]] | None = None
    for factor in pool_factor:
        for width in bits:
            seconds, stages = build(folder, docs, BuildParams(bits=width, dim=dim, pool_factor=factor))
            console.print({stage: round(spent, 1) for stage, spent in stages.items()})
            if exact is None:
                codebook = stored_space(folder)
                asked = [codebook.project(query) for query in queries.each()]
                top = exact_top(codebook.project(docs.vectors), docs.offsets, asked, 100)
                exact = [[docs.ids[n] for n in row] for row in top]
                table.add_row("float", "1", "exact", *_quality(exact, queries.ids, judged), "1.000", "", "", "", "")
            rows = [
                (str(width), str(factor), *row, f"{seconds:.1f}")
                for row in _searches(folder, queries, exact, judged, memory, exact_queries)
            ]
            for row in rows:
                console.print("  ".join(row))  # now already: the next setting takes minutes
                table.add_row(*row)
            if candidates:
                shares = candidate_shares(folder, queries.each(), [row[:10] for row in exact])
                console.print({depth: round(share, 4) for depth, share in shares.items()})
            shutil.rmtree(folder)
    folder.parent.rmdir()
    console.print(table)


def _searches(
    folder: Path, queries: Vectors, exact: list[list[str]], judged: Qrels | None, memory: str, limit: int | None
) -> list[tuple[str, ...]]:
    """The two rows of one index: every record scored (for `limit` queries), and the default search, one thread."""
    asked, tops = queries.each(), [row[:10] for row in exact]
    with Index.open(folder, memory=memory, threads=2) as index:
        bytes_a_token = f"{index.stats().record_bytes_per_token:.1f}"
        answers = index.search_vectors_batch(asked[:limit], 100, params=SearchParams(exact=True))
    found = [[hit.id for hit in hits] for hits in answers]
    quality = _quality(found, queries.ids, judged) if limit is None else ("", "", "")
    share = f"{recall([row[:10] for row in found], tops[:limit]):.4f}"
    every = ("index exact", *quality, share, "", "", bytes_a_token)
    found, seconds, refined = [], [], []
    with Index.open(folder, memory=memory, threads=1) as index:
        for query in asked:
            start = time.perf_counter()
            hits, stats = index.search_vectors_with_stats(query, 10, params=SearchParams(exact=False))
            seconds.append(time.perf_counter() - start)
            refined.append(stats.candidates)
            found.append([hit.id for hit in hits])
    ndcg, _, mrr = _quality(found, queries.ids, judged)  # no recall@100: ten hits were asked for
    share, p50 = f"{recall(found, tops):.4f}", percentiles(seconds)["p50"]
    return [every, ("default", ndcg, "", mrr, share, f"{np.mean(refined):.0f}", f"{p50:.1f}", bytes_a_token)]


def _quality(found: Sequence[Sequence[str]], ids: Sequence[str], judged: Qrels | None) -> tuple[str, str, str]:
    if judged is None:
        return "", "", ""
    measured = measure({id_: row for id_, row in zip(ids, found, strict=True) if id_ in judged}, judged)
    return f"{measured['ndcg@10']:.4f}", f"{measured['recall@100']:.4f}", f"{measured['mrr@10']:.4f}"


if __name__ == "__main__":
    main()

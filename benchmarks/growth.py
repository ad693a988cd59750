"""Does an index that grows keep its quality? Recall of the exact top 10 from a tenth of a collection to all of it.

    python -m benchmarks.growth ~/vectors/scifact ~/vectors/wiki20k
    python -m benchmarks.growth ~/vectors/scifact --foreign ~/vectors/npl

The vectors are brought to `--dim` dimensions first, by PCA of the collection, as if the encoder gave so many: so all lines are
held against one truth, exact float32 MaxSim. Documents come in random order. The lines:

1. *fixed*: built on the first tenth (or on another collection, `--foreign`), the rest by `add_vectors` in equal steps, the
   number of centroids fixed: what an engine does that keeps its codebook.
2. *expanding*: the same, with new centroids as the index grows (`colindex.expansion`): the default.
3. *recoded*: what each of the two became, with a codebook retrained on its decoded records and all of them coded again: what
   retraining can do where nothing but the index is left.
4. *whole*: built at once on all documents of a step. That is also what retraining gives where the vectors can be made again.

At each size: recall of the exact top 10 by the default search, and by one that scores every record (the codec's part);
the postings that a query walks; the drift that the index reports of itself.

Writes benchmarks/results/growth-NAME.json and .png.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.quality import exact_top, recall
from benchmarks.vectors import Vectors, load
from colindex import BuildParams, Index, SearchParams
from colindex.clustering import centroid_count
from colindex.codebook import SearchCodebook
from colindex.drift import Drift
from colindex.projection import Projection, learn_projection
from colindex.resample import decoded_sample
from colindex.storage.layout import codebook_path
from colindex.storage.plain import read_arrays
from colindex.storage.scanning import scan
from colindex.storage.segments import SegmentReader

K = 10
NONE = np.empty(0, np.int64)
ROWS = 65_536
"""Vectors that are projected at a time, and that a PCA is learned from."""
RESULTS = Path(__file__).parent / "results"
LABELS = {
    "fixed": "adds, no expansion",
    "expanding": "adds, with expansion",
    "fixed, recoded": "no expansion, retrained on its records",
    "expanding, recoded": "expansion, retrained on its records",
    "whole": "built whole at each size",
}


@dataclass(frozen=True, slots=True)
class Point:
    """One index at one size."""

    line: str
    documents: int
    tokens: int
    recall: float
    """Of the exact top 10, by the default search."""
    recall_of_records: float
    """The same where every record is scored."""
    postings: float
    """Entries walked a query."""
    refined: float
    """Documents scored a query."""
    drift: float | None
    """Residual energy of what was added over the build's."""
    advice: bool
    """Whether the index advises to retrain."""
    seconds: float
    """Of the last step alone: add, build or compaction."""


@dataclass(frozen=True, slots=True)
class Growth:
    """What an index grows by."""

    docs: Vectors
    """What is built on first, then what is added, in order."""
    queries: list[NDArray[np.float32]]
    sizes: list[int]
    """Documents after the build and after each step."""
    exact: dict[int, list[list[str]]]
    """The exact top 10 of each query at each size."""


def pca(docs: Vectors, dim: int) -> Projection:
    """To `dim` dimensions, learned from a collection."""
    chosen = np.sort(np.random.default_rng(0).permutation(len(docs.vectors))[:ROWS])
    return learn_projection(docs.vectors[chosen].astype(np.float32), dim, 0)


def projected(of: Vectors, projection: Projection) -> Vectors:
    """The same documents or queries, in fewer dimensions."""
    parts = (of.vectors[start : start + ROWS] for start in range(0, len(of.vectors), ROWS))
    vectors = np.concatenate([projection.apply(part).astype(np.float16) for part in parts])
    return Vectors(of.ids, vectors, of.token_ids, of.offsets)


def shuffled(docs: Vectors) -> Vectors:
    """The documents that have tokens, in random order."""
    lengths = np.diff(docs.offsets)
    order = np.random.default_rng(0).permutation(np.flatnonzero(lengths))
    rows = np.concatenate([np.arange(docs.offsets[number], docs.offsets[number + 1]) for number in order])
    offsets = np.concatenate([[0], np.cumsum(lengths[order])])
    return Vectors(tuple(docs.ids[number] for number in order), docs.vectors[rows], docs.token_ids[rows], offsets)


def joined(first: Vectors, then: Vectors) -> Vectors:
    """One collection after the other."""
    return Vectors(
        tuple(f"first-{id_}" for id_ in first.ids) + then.ids,
        np.concatenate([first.vectors, then.vectors]),
        np.concatenate([first.token_ids, then.token_ids]),
        np.concatenate([first.offsets, first.offsets[-1] + then.offsets[1:]]),
    )


def between(docs: Vectors, first: int, stop: int) -> Vectors:
    """Some documents next to each other."""
    rows = slice(int(docs.offsets[first]), int(docs.offsets[stop]))
    offsets = docs.offsets[first : stop + 1]
    return Vectors(docs.ids[first:stop], docs.vectors[rows], docs.token_ids[rows], offsets - offsets[0])


def growth(docs: Vectors, queries: Vectors, first: int, steps: int) -> Growth:
    """Sizes in equal steps, and the truth at each."""
    sizes = [int(size) for size in np.linspace(first, len(docs.ids), steps + 1)]
    asked = queries.each()
    exact = {}
    for size in sizes:
        some = docs.first(size)
        exact[size] = [[docs.ids[n] for n in row] for row in exact_top(some.vectors, some.offsets, asked, K)]
    return Growth(docs, asked, sizes, exact)


def measured(line: str, folder: Path, of: Growth, size: int, seconds: float) -> Point:
    """Search one index."""
    with Index.open(folder, memory="4GiB", threads=2) as index:
        every = index.search_vectors_batch(of.queries, K, params=SearchParams(exact=True))
        answers = [index.search_vectors_with_stats(query, K, params=SearchParams(exact=False)) for query in of.queries]
        manifest = index.manifest
        drift = None if manifest.drift is None else Drift.from_json(manifest.drift)
    point = Point(
        line=line,
        documents=size,
        tokens=manifest.tokens,
        recall=recall([[hit.id for hit in hits] for hits, _ in answers], of.exact[size]),
        recall_of_records=recall([[hit.id for hit in hits] for hits in every], of.exact[size]),
        postings=float(np.mean([stats.postings for _, stats in answers])),
        refined=float(np.mean([stats.candidates for _, stats in answers])),
        drift=None if drift is None else drift.ratio,
        advice=drift is not None and drift.advice() is not None,
        seconds=seconds,
    )
    click.echo(f"{line}: {size:,} documents, recall {point.recall:.4f}, {point.recall_of_records:.4f}", err=True)
    return point


def grown(line: str, scratch: Path, of: Growth, params: BuildParams) -> list[Point]:
    """Build on the first documents, then add the others step by step; the index stays at `scratch`/`line`."""
    folder, points = scratch / line, []
    for before, size in zip([0, *of.sizes], of.sizes, strict=False):
        start = time.perf_counter()
        batches = between(of.docs, before, size).batches()
        if before:
            with Index.open(folder, memory="4GiB") as index:
                index.add_vectors(batches)
        else:
            Index.build_from_vectors(folder, batches, params)
        points.append(measured(line, folder, of, size, time.perf_counter() - start))
    return points


def recoded(line: str, scratch: Path, of: Growth, params: BuildParams) -> Point:
    """Retrain what `grown` left, on its own records."""
    start, folder = time.perf_counter(), scratch / f"{line}, recoded"
    with Index.open(scratch / line, memory="4GiB") as index:
        manifest = index.manifest
    arrays = read_arrays(codebook_path(scratch / line, manifest.codebook), manifest.codebook_files)
    codebook = SearchCodebook.from_arrays(*arrays)
    readers = [SegmentReader(scratch / line, info) for info in manifest.segments]
    vectors, token_ids = decoded_sample(
        (part for each in readers for part in scan(each, NONE)), codebook, share=1, seed=0
    )
    if token_ids is None:
        raise ValueError(f"{line}: expected vocabulary ids of all records, got none.")
    ids = tuple(id_ for each in readers for id_ in each.external_ids(range(each.info.documents)))
    lengths = np.concatenate([np.diff(each.offsets.astype(np.int64)) for each in readers])
    decoded = Vectors(ids, vectors.astype(np.float16), token_ids, np.concatenate([[0], np.cumsum(lengths)]))
    Index.build_from_vectors(folder, decoded.batches(), params)
    turned = replace(of, queries=[codebook.project(query) for query in of.queries])
    point = measured(folder.name, folder, turned, of.sizes[-1], time.perf_counter() - start)
    shutil.rmtree(folder)
    return point


def whole(scratch: Path, of: Growth, params: BuildParams) -> list[Point]:
    """Build anew at each size."""
    folder, points = scratch / "whole", []
    for size in of.sizes:
        start = time.perf_counter()
        Index.build_from_vectors(folder, of.docs.first(size).batches(), params)
        points.append(measured("whole", folder, of, size, time.perf_counter() - start))
        shutil.rmtree(folder)
    return points


def plot(path: Path, title: str, points: Sequence[Point]) -> None:
    """Recall against documents, by default search and by all records; what a query walks."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    panels = (
        ("recall", "recall of the exact top 10, default search"),
        ("recall_of_records", "the same, every record scored"),
        ("postings", "posting entries walked a query"),
    )
    figure, every = plt.subplots(1, len(panels), figsize=(15, 4.4), layout="constrained")
    for axes, (name, label) in zip(every, panels, strict=True):
        for line in dict.fromkeys(point.line for point in points):
            mine = [point for point in points if point.line == line]
            marker = "*" if len(mine) == 1 else "o"
            axes.plot([p.documents for p in mine], [getattr(p, name) for p in mine], marker=marker, label=LABELS[line],
                      markersize=10 if len(mine) == 1 else 4, linestyle="--" if line == "whole" else "-")  # fmt: skip
        axes.set(xlabel="documents", title=label)
        axes.grid(visible=True, alpha=0.3)
    figure.legend(*every[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(LABELS))
    figure.suptitle(title)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def show(console: Console, points: Sequence[Point]) -> None:
    """A table."""
    table = Table("line", "documents", "tokens", "recall", "of records", "postings", "refined", "drift", "advice", "s")
    for point in points:
        drift = "" if point.drift is None else f"{point.drift:.2f}"
        table.add_row(point.line, f"{point.documents:,}", f"{point.tokens:,}", f"{point.recall:.4f}",
                      f"{point.recall_of_records:.4f}", f"{point.postings:,.0f}", f"{point.refined:.0f}", drift,
                      "retrain" if point.advice else "", f"{point.seconds:.0f}")  # fmt: skip
    console.print(table)


@click.command()
@click.argument("collections", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--foreign", type=click.Path(exists=True, path_type=Path), help="Build on this collection first.")
@click.option("--foreign-documents", default=4000, show_default=True, help="So many of it.")
@click.option("--dim", default=128, show_default=True)
@click.option("--bits", default=2, show_default=True)
@click.option("--share", default=0.1, show_default=True, help="Of the collection, to build on.")
@click.option("--steps", default=6, show_default=True, help="Adds.")
@click.option("--queries", "limit", default=200, show_default=True, help="Take the first so many queries.")
@click.option("--documents", type=int, help="Take so many documents.")
@click.option("--scratch", type=click.Path(path_type=Path), help="Where indexes lie meanwhile.")
def main(
    collections: tuple[Path, ...],
    foreign: Path | None,
    foreign_documents: int,
    dim: int,
    bits: int,
    share: float,
    steps: int,
    limit: int,
    documents: int | None,
    scratch: Path | None,
) -> None:
    """Grow indexes of collections of vectors and measure them on the way."""
    console = Console(width=140)
    for collection in collections:
        docs = shuffled(load(collection / "docs.npz")).first(documents)
        projection = pca(docs, dim)
        docs, queries = (
            projected(docs, projection),
            projected(load(collection / "queries.npz").first(limit), projection),
        )
        name, first = collection.name, max(1, round(share * len(docs.ids)))
        if foreign is not None:
            others = projected(shuffled(load(foreign / "docs.npz")).first(foreign_documents), projection)
            docs, name, first = joined(others, docs), f"{name}-on-{foreign.name}", len(others.ids)
        points = lines(scratch, growth(docs, queries, first, steps), BuildParams(bits=bits))
        show(console, points)
        RESULTS.mkdir(exist_ok=True)
        content = {"collection": name, "dim": dim, "bits": bits, "queries": len(queries.ids)}
        content["points"] = [asdict(point) for point in points]
        (RESULTS / f"growth-{name}.json").write_text(json.dumps(content, indent=1) + "\n")
        plot(RESULTS / f"growth-{name}.png", f"{name}, {dim} dims, {bits} bits", points)


def lines(scratch: Path | None, of: Growth, params: BuildParams) -> list[Point]:
    """All lines, in a folder that goes afterwards."""
    tokens = int(of.docs.offsets[of.sizes[0]])
    with tempfile.TemporaryDirectory(dir=scratch) as name:
        folder, points = Path(name), []
        for line, settings in (
            ("fixed", replace(params, centroids=centroid_count(tokens))),
            ("expanding", params),
        ):
            points += grown(line, folder, of, settings)
            points.append(recoded(line, folder, of, params))
            shutil.rmtree(folder / line)
        return points + whole(folder, of, params)


if __name__ == "__main__":
    main()

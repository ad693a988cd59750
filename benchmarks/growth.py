"""Does an index that grows keep its quality? Recall of the exact top 10 from a tenth of a collection to all of it.

    python -m benchmarks.growth ~/vectors/scifact ~/vectors/wiki20k
    python -m benchmarks.growth ~/vectors/scifact --foreign ~/vectors/npl
    python -m benchmarks.growth ~/vectors/wiki100k --steps 3 --queries 100 --whole last

The vectors are brought to `--dim` dimensions first, by PCA of the collection, as if the encoder gave so many: so all lines are
held against one truth, exact float32 MaxSim. Documents come in random order (`benchmarks.growth_data`). The lines:

1. *fixed*: built on the first tenth (or on another collection, `--foreign`), the rest by `add_vectors` in equal steps, the
   number of centroids fixed: what an engine does that keeps its codebook.
2. *expanding*: the same, with new centroids as the index grows (`colindex.expansion`): the default.
3. *retrained*: what `compact(retrain=True)` makes of each of the two in the end, where nothing but the index is left
   (`colindex.retrain`).
4. *whole*: built at once on all documents of a step. That is also what retraining gives where the vectors can be made again.
   At the first size it is the expanding index itself.

At each size: recall of the exact top 10 by the default search, of those of them that the build held, and by a search that
scores every record (the codec's part); the postings that a query walks; the drift that the index reports of itself.

Disk: the vectors in `--dim` dimensions and one index. Memory: what building takes, and the truth, 4 bytes a query and document.

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
from rich.console import Console
from rich.table import Table

from benchmarks.growth_data import Growth, Part, arranged, between, growth, pca, projected
from benchmarks.quality import recall
from benchmarks.vectors import load
from colindex import BuildParams, Index, SearchParams
from colindex.clustering import centroid_count
from colindex.drift import Drift

K = 10
MEMORY = "4GiB"
"""Of an index that is searched or added to."""
RESULTS = Path(__file__).parent / "results"
LABELS = {
    "fixed": "adds, no expansion",
    "expanding": "adds, with expansion",
    "fixed, retrained": "no expansion, then compact --retrain",
    "expanding, retrained": "expansion, then compact --retrain",
    "whole": "built whole",
}


@dataclass(frozen=True, slots=True)
class Point:
    """One index at one size."""

    line: str
    documents: int
    tokens: int
    recall: float
    """Of the exact top 10, by the default search."""
    recall_of_first: float | None
    """Of those in the exact top 10 that the build held, by the default search; None where it held none."""
    recall_of_records: float
    """The same where every record is scored."""
    postings: float
    """Entries walked a query."""
    refined: float
    """Documents scored a query."""
    centroids: int
    drift: float | None
    """Residual energy of what was added over the build's."""
    advice: bool
    """Whether the index advises to retrain."""
    seconds: float
    """Of the last step alone: add, build or compaction."""


def measured(line: str, folder: Path, of: Growth, size: int, seconds: float) -> Point:
    """Search one index."""
    with Index.open(folder, memory=MEMORY, threads=2) as index:
        every = index.search_vectors_batch(of.queries, K, params=SearchParams(exact=True))
        answers = [index.search_vectors_with_stats(query, K, params=SearchParams(exact=False)) for query in of.queries]
        manifest, centroids = index.manifest, index.stats().centroids
        drift = None if manifest.drift is None else Drift.from_json(manifest.drift)
    found = [[hit.id for hit in hits] for hits, _ in answers]
    point = Point(
        line=line,
        documents=size,
        tokens=manifest.tokens,
        recall=recall(found, of.exact[size]),
        recall_of_first=recall_among(found, of.exact[size], set(of.docs.ids[: of.sizes[0]])),
        recall_of_records=recall([[hit.id for hit in hits] for hits in every], of.exact[size]),
        postings=float(np.mean([stats.postings for _, stats in answers])),
        refined=float(np.mean([stats.candidates for _, stats in answers])),
        centroids=centroids,
        drift=None if drift is None else drift.ratio,
        advice=drift is not None and drift.advice(manifest.tokens) is not None,
        seconds=seconds,
    )
    click.echo(
        f"{line}: {size:,} documents, recall {point.recall:.4f}, {point.recall_of_records:.4f}, {seconds:.0f} s",
        err=True,
    )
    return point


def recall_among(found: Sequence[Sequence[str]], exact: Sequence[Sequence[str]], some: set[str]) -> float | None:
    """Share of all queries' exact documents among some that were found."""
    wanted = [some.intersection(top) for top in exact]
    count = sum(map(len, wanted))
    return sum(len(each.intersection(ids)) for each, ids in zip(wanted, found, strict=True)) / count if count else None


def grown(line: str, scratch: Path, of: Growth, params: BuildParams) -> list[Point]:
    """Build on the first documents, then add the others step by step; the index stays at `scratch`/`line`."""
    folder, points = scratch / line, []
    for before, size in zip([0, *of.sizes], of.sizes, strict=False):
        start = time.perf_counter()
        batches = between(of.docs, before, size).batches()
        if before:
            with Index.open(folder, memory=MEMORY) as index:
                index.add_vectors(batches)
        else:
            Index.build_from_vectors(folder, batches, params)
        points.append(measured(line, folder, of, size, time.perf_counter() - start))
    return points


def retrained(line: str, scratch: Path, of: Growth) -> Point:
    """Retrain what `grown` left, on its own records."""
    start = time.perf_counter()
    with Index.open(scratch / line, memory=MEMORY) as index:
        index.compact(retrain=True)
    return measured(f"{line}, retrained", scratch / line, of, of.sizes[-1], time.perf_counter() - start)


def whole(scratch: Path, of: Growth, sizes: Sequence[int], params: BuildParams) -> list[Point]:
    """Build anew at some sizes."""
    folder, points = scratch / "whole", []
    for size in sizes:
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
        ("recall_of_first", "the same, of what was built on"),
        ("recall_of_records", "all, every record scored"),
        ("postings", "posting entries walked a query"),
    )
    figure, every = plt.subplots(1, len(panels), figsize=(20, 4.4), layout="constrained")
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
    columns = "line documents tokens recall of-first of-records postings refined centroids drift advice s"
    table = Table(*columns.split())
    for point in points:
        of_first, drift = ("" if figure is None else f"{figure:.4f}" for figure in (point.recall_of_first, point.drift))
        table.add_row(
            point.line,
            f"{point.documents:,}",
            f"{point.tokens:,}",
            f"{point.recall:.4f}",
            of_first,
            f"{point.recall_of_records:.4f}",
            f"{point.postings:,.0f}",
            f"{point.refined:.0f}",
            f"{point.centroids:,}",
            drift,
            "retrain" if point.advice else "",
            f"{point.seconds:.0f}",
        )
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
@click.option(
    "--whole",
    "at",
    type=click.Choice(["each", "last"]),
    default="each",
    show_default=True,
    help="Sizes at which to build at once, too: each, or the first and the last.",
)
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
    at: str,
    scratch: Path | None,
) -> None:
    """Grow indexes of collections of vectors and measure them on the way."""
    console = Console(width=140)
    for collection in collections:
        docs, queries = load(collection / "docs.npz"), load(collection / "queries.npz").first(limit)
        parts, name = [Part(docs, documents)], collection.name
        if foreign is not None:
            parts.insert(0, Part(load(foreign / "docs.npz"), foreign_documents, "first-"))
            name = f"{name}-on-{foreign.name}"
        with tempfile.TemporaryDirectory(dir=scratch) as folder:
            projection = pca(docs, dim)
            every = arranged(Path(folder) / "vectors", parts, projection)
            first = max(1, round(share * len(every.ids))) if foreign is None else len(parts[0].order())
            of = growth(every, projected(queries, projection), first, steps, K)
            points = lines(Path(folder), of, BuildParams(bits=bits), at)
        show(console, points)
        RESULTS.mkdir(exist_ok=True)
        content = {"collection": name, "dim": dim, "bits": bits, "queries": len(queries.ids)}
        content["points"] = [asdict(point) for point in points]
        (RESULTS / f"growth-{name}.json").write_text(json.dumps(content, indent=1) + "\n")
        plot(RESULTS / f"growth-{name}.png", f"{name}, {dim} dims, {bits} bits", points)


def lines(scratch: Path, of: Growth, params: BuildParams, at: str) -> list[Point]:
    """All lines; one index at a time."""
    points, kept = [], centroid_count(int(of.docs.offsets[of.sizes[0]]))
    for line, settings in (("fixed", replace(params, centroids=kept)), ("expanding", params)):
        points += grown(line, scratch, of, settings)
        points.append(retrained(line, scratch, of))
        shutil.rmtree(scratch / line)
    built = next(point for point in points if point.line == "expanding")
    return [*points, replace(built, line="whole"), *whole(scratch, of, of.sizes[-1 if at == "last" else 1 :], params)]


if __name__ == "__main__":
    main()

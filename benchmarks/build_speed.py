"""How fast is a build, kernel by kernel and whole?

    python -m benchmarks.build_speed --vectors DOCS.npz [--dim 128] [--tokens 20000] [--whole] [--threads 2]

DOCS.npz holds token vectors as `benchmarks.vectors` writes them.

1. Kernels, on one thread: projection, assignment to the centroids of a token's own word, coding at each width, and Ward
   clustering of whole documents (the reference hands scipy distances that BLAS multiplied). The native body with each
   instruction set of this machine against the reference, in turns, the least time of several: a busy machine slows both.
2. Ward clustering of documents cut to 240 tokens, as scipy does it alone (`pdist`, `linkage`, `fcluster`), as the reference
   does, and as the native body does, in turns, medians; and in how many documents clusters differ from scipy's.
3. With --whole: the build from those vectors to a committed index, stage by stage.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import pdist
from threadpoolctl import threadpool_limits

from benchmarks.growth_data import pca, projected
from benchmarks.vectors import Vectors, load
from colindex import BuildParams, Index
from colindex.clustering import Clustering, centroid_count, cluster
from colindex.codec import train_codec
from colindex.kernels import chosen, reference
from colindex.projection import learn_projection

_DOCUMENTS = 24
_POOL_FACTOR = 2
_WARD_TOKENS = 240


@dataclass(frozen=True, slots=True)
class _Task:
    """One kernel with its arguments."""

    name: str
    kernel: str
    arguments: tuple[tuple[Any, ...], ...]
    """Of each call."""
    tokens: int
    """Of all calls."""

    def seconds(self, body: Any, repeats: int) -> float:
        """The least time of all calls."""
        function = getattr(body, self.kernel)
        return min(_timed(lambda: [function(*arguments) for arguments in self.arguments]) for _ in range(repeats))


def _timed(work: Callable[[], object]) -> float:
    started = time.thread_time()  # of the processor: waiting for others' work does not count
    work()
    return time.thread_time() - started


def _tasks(documents: Vectors, tokens: int, seed: int) -> Iterator[_Task]:
    """What is timed, on the first so many tokens; centroids are learned from all."""
    projection = learn_projection(documents.vectors, None, seed)
    vectors = projection.apply(documents.vectors)
    clustering = cluster(vectors, documents.token_ids, centroid_count(len(vectors)), seed=seed, threads=1)
    some = slice(0, tokens)
    yield _Task("project", "project", ((documents.vectors[some], projection.columns, projection.dim, False),), tokens)
    yield _Task("assign", "nearest", (_by_word(clustering, vectors[some], documents.token_ids[some]),), tokens)
    assigned = clustering.assign(vectors[some], documents.token_ids[some], threads=1)
    residuals = vectors[some] - clustering.centroids[assigned]
    for bits in (1, 2, 4, 8):
        levels = train_codec(residuals, bits, seed=seed, threads=1).levels
        yield _Task(f"code, {bits} bits", "encode_residuals", ((residuals, levels, bits),), tokens)
    parts = [part.astype(np.float32) for part in np.split(documents.vectors, documents.offsets[1:-1])]
    parts = [part for part in sorted(parts, key=len) if len(part) > _POOL_FACTOR][-_DOCUMENTS:]
    pooled = tuple((part, len(part) // _POOL_FACTOR) for part in parts)
    lengths = f"{len(parts[0])} to {len(parts[-1])}"
    yield _Task(f"Ward, {lengths} tokens", "ward_labels", pooled, sum(map(len, parts)))


def _by_word(clustering: Clustering, vectors: NDArray[np.float32], token_ids: NDArray[np.int32]) -> tuple[Any, ...]:
    """Arguments of `nearest`: the vectors of each word and its centroids."""
    words = np.asarray(clustering.group_ids)
    groups = np.minimum(np.searchsorted(words, token_ids), len(words) - 1)
    known = np.flatnonzero(words[groups] == token_ids)
    rows = known[np.argsort(groups[known], kind="stable")]
    bounds = np.searchsorted(groups[rows], np.arange(len(words) + 1))
    return vectors, rows, bounds, clustering.centroids, clustering.group_offsets.astype(np.int64), 1


def _kernels(documents: Vectors, tokens: int, repeats: int, seed: int) -> Table:
    """Microseconds a token of each body, and how many times faster than the reference."""
    native = import_module("colindex.kernels.native._native") if chosen.nearest is not reference.nearest else None
    sets: list[str] = native.instruction_sets() if native else []
    table = Table("kernel", "reference us/token", *[f"{name} us/token (ratio)" for name in sets])
    for task in _tasks(documents, tokens, seed):
        plain = task.seconds(reference, repeats)
        cells = []
        for name in sets:
            native.use_instruction_set(name)  # type: ignore[union-attr]
            seconds = task.seconds(chosen, repeats)
            cells.append(f"{seconds / task.tokens * 1e6:.2f} ({plain / seconds:.1f})")
        table.add_row(task.name, f"{plain / task.tokens * 1e6:.2f}", *cells)
    return table


def _by_scipy(vectors: NDArray[np.float32], n_clusters: int) -> NDArray[np.int32]:
    """Ward's clusters without a line of ours."""
    found: NDArray[np.int32] = fcluster(linkage(pdist(vectors, "cosine"), "ward"), n_clusters, "maxclust")
    return found


def _ward(documents: Vectors, repeats: int) -> Table:
    """Microseconds a document of each way, and how many times the native body is faster."""
    starts = documents.offsets[:-1][np.diff(documents.offsets) >= _WARD_TOKENS][:_DOCUMENTS]
    parts = [documents.vectors[start : start + _WARD_TOKENS].astype(np.float32) for start in starts.tolist()]
    parts = [part / np.linalg.norm(part, axis=1, keepdims=True) for part in parts]
    ways = {"scipy alone": _by_scipy, "BLAS and scipy": reference.ward_labels, "native": chosen.ward_labels}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    pairs: dict[str, list[NDArray[np.bool_]]] = {name: [] for name in ways}
    for repeat in range(repeats):
        for name, way in ways.items():
            for part in parts:
                started = time.thread_time()
                labels = way(part, _WARD_TOKENS // _POOL_FACTOR)
                seconds[name].append(time.thread_time() - started)
                if not repeat:
                    pairs[name].append(labels[:, None] == labels)
    native = float(np.median(seconds["native"]))
    title = f"Ward, {len(parts)} documents of {_WARD_TOKENS} tokens, {documents.vectors.shape[1]} dims"
    table = Table("way", "us a document", "native is faster", "documents that differ from scipy's", title=title)
    for name, spent in seconds.items():
        differ = sum(not np.array_equal(*both) for both in zip(pairs[name], pairs["scipy alone"], strict=True))
        table.add_row(name, f"{np.median(spent) * 1e6:,.0f}", f"{np.median(spent) / native:.1f} times", str(differ))
    return table


def _whole(documents: Vectors, folder: Path, threads: int) -> Table:
    """Seconds of each stage of one build."""
    started = time.perf_counter(), time.process_time()
    report = Index.build_from_vectors(folder / "index", documents.batches(), BuildParams(threads=threads))
    wall, processor = time.perf_counter() - started[0], time.process_time() - started[1]
    table = Table("tokens", *report.seconds, "all", "processor", "us/token")
    stages = [f"{seconds:.1f}" for seconds in report.seconds.values()]
    table.add_row(f"{report.tokens:,}", *stages, f"{wall:.1f}", f"{processor:.1f}", f"{wall / report.tokens * 1e6:.1f}")
    return table


@click.command()
@click.option("--vectors", type=click.Path(exists=True, path_type=Path), required=True, help="Documents, .npz.")
@click.option("--dim", type=int, help="Dimensions that pooling is timed at: the first principal axes. [all]")
@click.option("--tokens", default=20_000, show_default=True, help="Tokens that kernels are timed on.")
@click.option("--repeats", default=3, show_default=True)
@click.option("--whole", is_flag=True, help="Build an index of all vectors, too.")
@click.option("--threads", default=2, show_default=True, help="Threads of the whole build.")
@click.option("--seed", default=0, show_default=True)
def main(vectors: Path, dim: int | None, tokens: int, repeats: int, whole: bool, threads: int, seed: int) -> None:
    """Print a table of kernels, one of pooling, and one of the whole build."""
    documents = load(vectors)
    with threadpool_limits(limits=1):
        few = documents.first(max(1, int(np.searchsorted(documents.offsets, 10 * tokens))))
        Console().print(_kernels(few, min(tokens, len(few.vectors)), repeats, seed))
        Console().print(_ward(projected(few, pca(few, dim)) if dim else few, repeats))
    if whole:
        folder = Path(tempfile.mkdtemp(dir=vectors.parent))
        try:
            Console().print(_whole(documents, folder, threads))
        finally:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()

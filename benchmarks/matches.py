"""Matches held against hits: is what is shown what was counted?

    python -m benchmarks.matches VECTORS/scifact --scratch DIR

For each number of bits, pooled by two and not, in one segment and in several:
1. *Build* an index of the vectors in the scratch folder, and remove it when it has answered.
2. *Search* with each query, and inspect every hit.
3. *Check* each: the match has the hit's score to the bit; its contributions are the largest similarities of their query tokens;
   and their sum is the score but for the rounding of float32.

The exit code is 1 if a check fails. Shares are checked by their sum, 1.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.vectors import load
from colindex import BuildParams, Hit, Index, Match

RESULTS = Path(__file__).parent / "results"
BITS, POOLED, SEGMENTS = (1, 2, 4, 8), (1, 2), (1, 5)
ROUNDINGS = 4
"""Steps of float32 by which a sum may lie beside the score."""
_STEP = float(np.finfo(np.float32).eps)


@dataclass(frozen=True, slots=True)
class Held:
    """What came of one index."""

    bits: int
    pool_factor: int
    segments: int
    hits: int
    violations: int
    furthest: float
    """The largest difference between a sum of contributions and a score."""


def distance(match: Match, hit: Hit) -> float:
    """Between the sum of the contributions and the hit's score."""
    return abs(sum(each.score for each in match.contributions) - hit.score)


def violations(match: Match, hit: Hit) -> Iterator[str]:
    """What a match says otherwise than its hit."""
    parts = match.contributions
    if match.score != hit.score:
        yield f"scores {match.score}, the hit {hit.score}"
    if [each.query_token for each in parts] != list(range(len(match.similarities))):
        yield "has not one contribution for each query token"
    if any(each.score != match.similarities[each.query_token].max() for each in parts):
        yield "a contribution is not the best similarity of its query token"
    if any(each.score != match.similarities[each.query_token, each.stored] for each in parts):
        yield "a contribution names another vector"
    if distance(match, hit) > ROUNDINGS * _STEP * sum(abs(each.score) for each in parts):
        yield f"contributions add up to {sum(each.score for each in parts)}, not to {hit.score}"
    if parts and abs(sum(each.share for each in parts) - 1) > ROUNDINGS * _STEP * len(parts):
        yield f"shares add up to {sum(each.share for each in parts)}"


def held(index: Index, queries: Sequence[NDArray[np.float32]], k: int, console: Console) -> tuple[int, int, float]:
    """Hits, violations and the largest distance of all queries."""
    hits, wrong, furthest = 0, 0, 0.0
    for number, query in enumerate(queries):
        for hit in index.search_vectors(query, k):
            match = index.inspect(query, hit.id)
            told = list(violations(match, hit))
            hits, wrong, furthest = hits + 1, wrong + bool(told), max(furthest, distance(match, hit))
            for each in told:
                console.print(f"query {number}, {hit.id}: {each}.")
    return hits, wrong, furthest


def show(console: Console, done: Sequence[Held]) -> None:
    """A line an index."""
    table = Table("bits", "pooled by", "segments", "hits", "violations", "furthest sum", title="Matches against hits")
    for each in done:
        counts = (each.bits, each.pool_factor, each.segments, each.hits, each.violations)
        table.add_row(*map("{:,}".format, counts), f"{each.furthest:.1e}")
    console.print(table)


@click.command(help=__doc__)
@click.argument("vectors", type=click.Path(exists=True, path_type=Path))
@click.option("--scratch", type=click.Path(path_type=Path), required=True, help="Folder for the indexes.")
@click.option("--queries", "limit", default=300, show_default=True)
@click.option("--documents", type=int, help="Take so many documents.")
@click.option("--k", default=10, show_default=True)
@click.option("--dim", default=128, show_default=True)
@click.option("--output", type=click.Path(path_type=Path), default=RESULTS / "matches.json", show_default=True)
def main(vectors: Path, scratch: Path, limit: int, documents: int | None, k: int, dim: int, output: Path) -> None:
    """Build, search, check."""
    docs, console, done = load(vectors / "docs.npz").first(documents), Console(), []
    queries = load(vectors / "queries.npz").first(limit).each()
    scratch.mkdir(parents=True, exist_ok=True)
    folder = scratch / "matches.colindex"
    for bits, factor, segments in product(BITS, POOLED, SEGMENTS):
        shutil.rmtree(folder, ignore_errors=True)
        tokens = -(-len(docs.vectors) // (factor * segments))
        params = BuildParams(
            bits=bits, pool_factor=factor, dim=dim, segment_tokens=tokens if segments > 1 else 8_000_000
        )
        Index.build_from_vectors(folder, docs.batches(), params)
        with Index.open(folder, memory="2GiB") as index:
            hits, wrong, furthest = held(index, queries, k, console)
            done.append(Held(bits, factor, len(index.manifest.segments), hits, wrong, furthest))
        click.echo(f"{done[-1]}", err=True)
    shutil.rmtree(folder)
    show(console, done)
    output.write_text(json.dumps([asdict(each) for each in done], indent=1) + "\n")
    sys.exit(1 if any(each.violations for each in done) else 0)


if __name__ == "__main__":
    main()

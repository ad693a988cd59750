"""Token vectors of a collection, encoded once and kept outside the repository.

    python -m benchmarks.vectors ../shared/data/scifact -o ~/vectors/scifact

writes `docs.npz` and `queries.npz`: `v` float16 [tokens, dim], `i` int32 vocabulary ids, `o` int64 offsets, `ids`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from colindex import Encoder, TokenBatch
from colindex.corpus import read_corpus
from colindex.evaluate import read_queries

__all__ = ["Vectors", "load"]

DOCUMENTS_AT_ONCE = 512


@dataclass(frozen=True, slots=True)
class Vectors:
    """Token vectors with their documents' ids."""

    ids: tuple[str, ...]
    vectors: NDArray[np.float16]
    token_ids: NDArray[np.int32]
    offsets: NDArray[np.int64]

    def batches(self, documents: int = 4096) -> Iterator[TokenBatch]:
        """Batches as `Index.build_from_vectors` takes them."""
        for start in range(0, len(self.ids), documents):
            offsets = self.offsets[start : start + documents + 1]
            rows = slice(int(offsets[0]), int(offsets[-1]))
            yield TokenBatch(
                ids=self.ids[start : start + documents],
                vectors=self.vectors[rows],
                offsets=offsets - offsets[0],
                token_ids=self.token_ids[rows],
            )

    def first(self, count: int | None) -> Vectors:
        """The first so many documents (or queries)."""
        end = len(self.ids) if count is None else min(count, len(self.ids))
        rows = slice(0, int(self.offsets[end]))
        return Vectors(self.ids[:end], self.vectors[rows], self.token_ids[rows], self.offsets[: end + 1])

    def each(self) -> list[NDArray[np.float32]]:
        """One float32 array a document (or query)."""
        return [part.astype(np.float32) for part in np.split(self.vectors, self.offsets[1:-1])]


def load(path: Path) -> Vectors:
    """Read one of the two files."""
    with np.load(path, allow_pickle=False) as file:
        return Vectors(tuple(file["ids"].tolist()), file["v"], file["i"].astype(np.int32), file["o"].astype(np.int64))


def _save(path: Path, batches: Sequence[TokenBatch]) -> None:
    lengths = np.concatenate([np.diff(batch.offsets) for batch in batches])
    np.savez(
        path,
        v=np.concatenate([batch.vectors for batch in batches]).astype(np.float16),
        i=np.concatenate([batch.token_ids for batch in batches if batch.token_ids is not None]),
        o=np.concatenate([[0], np.cumsum(lengths)]),
        ids=np.array([id_ for batch in batches for id_ in batch.ids]),
    )


@click.command()
@click.argument("collection", type=click.Path(exists=True, path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True)
@click.option("--encoder", default="minilm", show_default=True)
@click.option("--queries", "limit", type=int, default=1000, show_default=True, help="At most this many queries.")
def main(collection: Path, output: Path, encoder: str, limit: int) -> None:
    """Encode a BEIR folder (corpus.jsonl.gz, queries.jsonl.gz)."""
    model = Encoder.load(encoder)
    output.mkdir(parents=True, exist_ok=True)
    documents = list(read_corpus([collection / "corpus.jsonl.gz"]))
    batches = []
    for start in range(0, len(documents), DOCUMENTS_AT_ONCE):
        batches.append(model.encode_documents(documents[start : start + DOCUMENTS_AT_ONCE]))
        click.echo(f"{start + len(batches[-1]):,} of {len(documents):,} documents", err=True)
    _save(output / "docs.npz", batches)
    queries = read_queries(collection / "queries.jsonl.gz")[:limit]
    encoded = model.encode_queries([query.text for query in queries])
    named = TokenBatch(
        ids=tuple(query.id for query in queries),
        vectors=encoded.vectors,
        offsets=encoded.offsets,
        token_ids=encoded.token_ids,
    )
    _save(output / "queries.npz", [named])


if __name__ == "__main__":
    main()

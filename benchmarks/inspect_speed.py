"""What it costs to see why: inspecting a document, its page, and a search of `colindex serve` with snippets.

    python -m benchmarks.inspect_speed --scratch ~/inspect
    python -m benchmarks.inspect_speed --scratch ~/inspect --passages 250 --questions 30    (a quick look)

1. *Build* an index of the sample's 2,000 Wikipedia passages with all-MiniLM, kept in the scratch folder.
2. *Ask* the sample's questions. For each: inspect the best document and one drawn at random, without and with the
   similarities before quantization, write the page of each match, rank its sentences, explain it, and search through the
   server as the page does.
3. *Take out* the encoder's own time, which depends on the model alone: all figures are milliseconds beside it, medians and
   95th percentiles, one thread. The exit code is 1 if `inspect` takes longer than it may.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import click
import numpy as np
from fastapi.testclient import TestClient
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from threadpoolctl import threadpool_limits

from colindex import Document, Encoder, Index, TokenBatch
from colindex.corpus import read_corpus
from colindex.evaluate import read_queries
from colindex.inspection import Vocabulary
from colindex.serve.app import create_app
from colindex.types import TextEncoder

SAMPLES = Path(__file__).parents[1] / "samples"
AT_MOST = {"inspect": 20.0, "inspect, exact": 20.0}
"""Milliseconds beside the encoder, in the median."""
RESULTS = Path(__file__).parent / "results"


class Naming(TextEncoder, Vocabulary, Protocol):
    """An encoder that can name its tokens."""


class Watched:
    """An encoder that knows how long it took."""

    def __init__(self, encoder: Naming) -> None:
        self._encoder, self.seconds = encoder, 0.0
        self.name, self.dim, self.fingerprint = encoder.name, encoder.dim, encoder.fingerprint
        self.max_document_tokens, self.pools_tokens = encoder.max_document_tokens, encoder.pools_tokens
        self.vocabulary = encoder.vocabulary

    def encode_documents(self, documents: Sequence[Document]) -> TokenBatch:
        """As the encoder does."""
        with self._timed():
            return self._encoder.encode_documents(documents)

    def encode_queries(self, texts: Sequence[str]) -> TokenBatch:
        """As the encoder does."""
        with self._timed():
            return self._encoder.encode_queries(texts)

    def encode_query(self, text: str) -> NDArray[np.float32]:
        """As the encoder does."""
        with self._timed():
            return self._encoder.encode_query(text)

    @contextmanager
    def _timed(self) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - start


class Clock:
    """Milliseconds of each thing that was done, the encoder's apart."""

    def __init__(self, encoder: Watched) -> None:
        self._encoder = encoder
        self.spent: dict[str, list[float]] = {}
        self.encoding: dict[str, list[float]] = {}

    def __call__(self, name: str, call: Callable[[], Any]) -> Any:
        """What a call gives."""
        before, start = self._encoder.seconds, time.perf_counter()
        result = call()
        seconds, encoding = time.perf_counter() - start, self._encoder.seconds - before
        self.spent.setdefault(name, []).append(1000 * (seconds - encoding))
        self.encoding.setdefault(name, []).append(1000 * encoding)
        return result


def built(scratch: Path, passages: int) -> Path:
    """The index of the first so many passages; it is built once."""
    folder = scratch / f"wikipedia-{passages}.colindex"
    if not folder.exists():
        documents = islice(read_corpus([SAMPLES / "wikipedia-2k.jsonl.gz"]), passages)
        Index.build(folder, documents, Encoder.load("minilm"))
    return folder


def ask(folder: Path, index: Index, clock: Clock, questions: Sequence[str]) -> None:
    """Step 2."""
    rng = np.random.default_rng(0)
    ids = [hit.id for hit in index.search("a", len(index))]
    page = folder.with_name("match.html")
    with TestClient(create_app(index, folder), base_url="http://127.0.0.1") as client:
        for question in questions:
            hits = clock("search", partial(index.search, question))
            for id_ in (hits[0].id, str(rng.choice(ids))):
                one(index, clock, question, id_, page)
            answer = clock("POST /api/search", partial(client.post, "/api/search", json={"query": question}))
            assert answer.status_code == 200
            assert len(answer.json()["hits"]) == 10
            clock.spent.setdefault("... of that, snippets", []).append(1000 * answer.json()["seconds"]["snippets"])
            looked = {"query": question, "id": hits[0].id}
            assert clock("GET /match", partial(client.get, "/match", params=looked)).status_code == 200


def one(index: Index, clock: Clock, question: str, id_: str, page: Path) -> None:
    """All that is done with one match."""
    match = clock("inspect", lambda: index.inspect(question, id_, exact=False))
    exact = clock("inspect, exact", lambda: index.inspect(question, id_))
    assert exact.exact is not None
    clock("ranked_spans", match.ranked_spans)
    clock("to_html", lambda: exact.to_html(page))
    clock("to_dict", exact.to_dict)
    clock("explain_missing", lambda: index.explain_missing(question, id_))


def figures(clock: Clock) -> dict[str, dict[str, float]]:
    """Medians and 95th percentiles."""
    return {
        name: {
            "median_ms": float(np.median(spent)),
            "p95_ms": float(np.percentile(spent, 95)),
            "encoder_ms": float(np.median(clock.encoding.get(name, [0.0]))),
        }
        for name, spent in clock.spent.items()
    }


def show(console: Console, found: Mapping[str, Mapping[str, float]]) -> None:
    """A line for each thing that was done."""
    table = Table("what", "median, ms", "95 %, ms", "may take", "encoder beside that, ms", title="Seeing why")
    for name, row in found.items():
        limit = f"{AT_MOST[name]:g}" if name in AT_MOST else ""
        table.add_row(name, f"{row['median_ms']:.2f}", f"{row['p95_ms']:.2f}", limit, f"{row['encoder_ms']:.1f}")
    console.print(table)


@click.command(help=__doc__)
@click.option("--scratch", type=click.Path(path_type=Path), required=True, help="Folder for the index.")
@click.option("--passages", default=2000, show_default=True)
@click.option("--questions", "count", default=100, show_default=True)
@click.option("--output", type=click.Path(path_type=Path), default=RESULTS / "inspect_speed.json", show_default=True)
def main(scratch: Path, passages: int, count: int, output: Path) -> None:
    """Build, ask, print."""
    scratch.mkdir(parents=True, exist_ok=True)
    folder, encoder = built(scratch, passages), Watched(Encoder.load("minilm"))
    questions = [query.text for query in read_queries(SAMPLES / "queries.jsonl")][:count]
    with threadpool_limits(1), Index.open(folder, encoder=encoder) as index:
        ask(folder, index, Clock(encoder), questions[:3])  # what is loaded at its first use
        clock = Clock(encoder)
        ask(folder, index, clock, questions)
    found = figures(clock)
    show(Console(), found)
    output.write_text(json.dumps(found, indent=1) + "\n")
    sys.exit(1 if any(found[name]["median_ms"] > limit for name, limit in AT_MOST.items()) else 0)


if __name__ == "__main__":
    main()

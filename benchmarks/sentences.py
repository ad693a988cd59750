"""Ranking sentences inside abstracts: how often is a sentence that people marked as evidence among the first three?

    python -m benchmarks.sentences ../shared/data/scifact claims_train.jsonl --abstracts corpus.jsonl

For each claim of SciFact and each abstract with evidence for or against it, rank the abstract's sentences by
- `colindex`: MaxSim over the stored vectors of each sentence (`Match.ranked_spans`), from an index of those abstracts;
- `BM25`: bm25s with its defaults (Lucene's formula, English stop words), statistics over all sentences of those abstracts;
- `order`: as they stand in the abstract; `chance`: what a random order is expected to reach.

`claims_train.jsonl` and `corpus.jsonl` are files of SciFact's release (github.com/allenai/scifact). Evidence is numbers of
sentences: with --abstracts they are the release's own sentences, else those that colindex finds, and pairs whose numbers lie
outside the abstract are left out. A sentence beyond --max-tokens has no vectors and comes last: all-MiniLM's own 256 tokens
cut three abstracts in four, and with them their conclusions. All else is the collection in BEIR's layout. Needs bm25s.
"""

from __future__ import annotations

import json
import math
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import bm25s
import click
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from colindex import BuildParams, Document, Encoder, Index
from colindex.corpus import read_corpus
from colindex.evaluate import read_queries
from colindex.sentences import sentences

Spans = list[tuple[int, int]]
DEPTHS = (1, 3)


@dataclass(frozen=True, slots=True)
class Pair:
    """A claim and an abstract with evidence."""

    claim: str
    document: str
    """Its id."""
    evidence: frozenset[int]
    """Numbers of its sentences."""


def read_pairs(claims: Path, texts: Mapping[str, str]) -> Iterator[Pair]:
    """All pairs of a claim and an abstract, the claims' texts from the collection."""
    for line in claims.read_text(encoding="utf-8").splitlines():
        claim = json.loads(line)
        for document, sets in claim["evidence"].items():
            numbers = frozenset(number for evidence in sets for number in evidence["sentences"])
            yield Pair(texts[str(claim["id"])], document, numbers)


def release_spans(document: Document, said: Sequence[str]) -> Spans:
    """Where the sentences of the release lie in a document of the collection, which joins them with spaces."""
    spans, at = [], len(document.content) - len(document.text)
    for sentence in said:
        start = document.content.index(sentence.strip(), at)
        at = start + len(sentence.strip())
        spans.append((start, at))
    return spans


def own_spans(document: Document) -> Spans:
    """Its sentences as colindex finds them, without the title."""
    return [span for span in sentences(document) if span[0] >= len(document.content) - len(document.text)]


def by_colindex(
    pairs: Sequence[Pair], documents: Mapping[str, Document], spans: Mapping[str, Spans], bits: int, max_tokens: int
) -> list[list[int]]:
    """The order of each pair's sentences, best first."""
    encoder, orders = Encoder.load("minilm", max_tokens=max_tokens), []
    with tempfile.TemporaryDirectory() as folder:
        Index.build(Path(folder, "i"), documents.values(), encoder, BuildParams(bits=bits))
        with Index.open(Path(folder, "i"), encoder=encoder) as index:
            for pair in pairs:
                match = index.inspect(pair.claim, pair.document, exact=False)
                places = {span: number for number, span in enumerate(spans[pair.document])}
                ranked = match.ranked_spans(spans[pair.document])
                orders.append([places[span.start, span.stop] for span in ranked])
    return orders


def by_bm25(pairs: Sequence[Pair], documents: Mapping[str, Document], spans: Mapping[str, Spans]) -> list[list[int]]:
    """The same by BM25."""
    firsts, said = {}, []
    for id_, document in documents.items():
        firsts[id_] = len(said)
        said += [document.content[start:stop] for start, stop in spans[id_]]
    retriever = bm25s.BM25()
    retriever.index(bm25s.tokenize(said, stopwords="en", show_progress=False), show_progress=False)
    orders = []
    for pair in pairs:
        (tokens,) = bm25s.tokenize([pair.claim], stopwords="en", return_ids=False, show_progress=False)
        scores: NDArray[np.float32] = retriever.get_scores(tokens)
        first = firsts[pair.document]
        orders.append(np.argsort(-scores[first : first + len(spans[pair.document])], kind="stable").tolist())
    return orders


def found(pairs: Sequence[Pair], orders: Sequence[Sequence[int]], depth: int) -> NDArray[np.bool_]:
    """Whether a sentence of evidence is among the first."""
    return np.array([bool(pair.evidence & set(order[:depth])) for pair, order in zip(pairs, orders, strict=True)])


def chance(pair: Pair, count: int, depth: int) -> float:
    """The same for sentences in random order."""
    return 1 - math.comb(count - len(pair.evidence), depth) / math.comb(count, depth) if count > depth else 1.0


def sign_test(wins: int, losses: int) -> float:
    """Two-sided probability of so uneven a split of pairs that differ, were both equally good."""
    tail = sum(math.comb(wins + losses, at) for at in range(min(wins, losses) + 1))
    return min(1.0, 2 * tail / 2 ** (wins + losses))


@click.command(help=__doc__)
@click.argument("collection", type=click.Path(exists=True, path_type=Path))
@click.argument("claims", type=click.Path(exists=True, path_type=Path))
@click.option("--abstracts", type=click.Path(exists=True, path_type=Path), help="corpus.jsonl of the release.")
@click.option("--bits", type=int, default=2, show_default=True)
@click.option("--max-tokens", type=int, default=512, show_default=True, help="Longer abstracts are cut to this.")
def main(collection: Path, claims: Path, abstracts: Path | None, bits: int, max_tokens: int) -> None:
    """Rank, count, print."""
    texts = {query.id: query.text for query in read_queries(collection / "queries.train.jsonl.gz")}
    every = list(read_pairs(claims, texts))
    wanted = {pair.document for pair in every}
    documents = {
        document.id: document for document in read_corpus([collection / "corpus.jsonl.gz"]) if document.id in wanted
    }
    if abstracts is None:
        spans = {id_: own_spans(document) for id_, document in documents.items()}
    else:
        lines = map(json.loads, abstracts.read_text(encoding="utf-8").splitlines())
        spans = {
            id_: release_spans(documents[id_], line["abstract"])
            for line in lines
            if (id_ := str(line["doc_id"])) in wanted
        }
    pairs = [pair for pair in every if max(pair.evidence) < len(spans[pair.document])]

    start = time.perf_counter()
    orders = {"colindex": by_colindex(pairs, documents, spans, bits, max_tokens)}
    seconds = time.perf_counter() - start
    orders["BM25"] = by_bm25(pairs, documents, spans)
    orders["order"] = [list(range(len(spans[pair.document]))) for pair in pairs]

    table = Table(*["ranking", *(f"evidence in the first {depth}" for depth in DEPTHS)])
    for name, ranked in orders.items():
        table.add_row(name, *(f"{found(pairs, ranked, depth).mean():.3f}" for depth in DEPTHS))
    expected = [np.mean([chance(pair, len(spans[pair.document]), depth) for pair in pairs]) for depth in DEPTHS]
    table.add_row("chance", *(f"{value:.3f}" for value in expected))
    console = Console()
    console.print(table)
    sentences_each = np.mean([len(of_one) for of_one in spans.values()])
    mine, theirs = (found(pairs, orders[name], 3) for name in ("colindex", "BM25"))
    wins, losses = int((mine & ~theirs).sum()), int((theirs & ~mine).sum())
    console.print(
        f"{len(pairs)} of {len(every)} pairs, {len(documents)} abstracts, {sentences_each:.1f} "
        f"sentences each; first three: colindex alone {wins}, BM25 alone {losses}, sign test p = {sign_test(wins, losses):.3f}; "
        f"{seconds:.0f} s to encode, build and rank."
    )


if __name__ == "__main__":
    main()

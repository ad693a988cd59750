"""Ranking sentences inside abstracts: how often is a sentence that people marked as evidence among the first three?

    python -m benchmarks.sentences ../shared/data/scifact -o benchmarks/results/sentences.json

For each claim of SciFact and each abstract with evidence for or against it, rank the abstract's sentences by
- `colindex, window NAME`: MaxSim over the stored vectors of each sentence (`Match.ranked_spans`), from an index of those
  abstracts whose encoder saw the whole document at once (`document`; with the model's own 256 tokens and with 512), or each
  sentence alone (`sentence`, `colindex build --window sentence`);
- `BM25`: bm25s with its defaults (Lucene's formula, English stop words), statistics over all sentences of those abstracts;
- `order`: as they stand in the abstract; `chance`: what a random order is expected to reach.

Pairs come from `benchmarks/data/scifact-evidence.tsv`, or from a file of SciFact's release with --claims claims_train.jsonl.
The training claims are what counts. Of these, abstracts with an even number are the development half, on which methods were
chosen, and the others the test half: claims come in contradicting pairs about one abstract, and no abstract is in both. The
claims of SciFact's own development set are a third set.

Evidence is numbers of sentences. With --abstracts corpus.jsonl they are the release's own sentences, else those that colindex
finds, and pairs whose numbers lie outside the abstract are left out. A sentence beyond the encoder's window has no vectors and
comes last. The standard error is that of the mean difference to BM25 on the same pairs, with the pairs of one abstract counted
together. `--bfloat16` encodes in 16 bits (`benchmarks.vectors`). All else is the collection in BEIR's layout. Needs bm25s.
"""

from __future__ import annotations

import contextlib
import json
import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from colindex import BuildParams, Document, Encoder, Index
from colindex.corpus import read_corpus
from colindex.evaluate import read_queries
from colindex.params import Window
from colindex.sentences import sentences

Spans = list[tuple[int, int]]
EVIDENCE = Path(__file__).parent / "data" / "scifact-evidence.tsv"
DEPTHS = (1, 3)
BASELINE = "BM25"


@dataclass(frozen=True, slots=True)
class Pair:
    """A claim and an abstract with evidence."""

    part: str
    """`train` or `dev`, as the release divides its claims."""
    claim: str
    """Its id."""
    document: str
    """Its id."""
    evidence: frozenset[int]
    """Numbers of its sentences."""

    @property
    def set(self) -> str:
        """Which set of pairs it counts for."""
        if self.part != "train":
            return "claims_dev"
        return "test half" if int(self.document) % 2 else "development half"


@dataclass(frozen=True, slots=True)
class Way:
    """A way of encoding, whose index ranks."""

    window: Window
    max_tokens: int | None
    """None keeps the model's own."""

    @property
    def name(self) -> str:
        """What the table calls it."""
        length = "" if self.max_tokens is None else f", {self.max_tokens} tokens"
        return f"colindex, window {self.window}{length}"


WAYS = (Way("document", None), Way("document", 512), Way("sentence", None))


@dataclass(frozen=True, slots=True)
class Row:
    """What one ranking reached on one set of pairs."""

    ranking: str
    first: float
    first_three: float
    """Share of pairs with a sentence of evidence there."""
    over_bm25: float
    """Difference of `first_three` to BM25's."""
    standard_error: float
    """Of that difference."""
    alone: int
    """Pairs with evidence in the first three here, and not by BM25."""
    bm25_alone: int


def read_tsv(path: Path) -> Iterator[Pair]:
    """Pairs from the file of this repository."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    for line in lines[1:]:
        part, claim, document, numbers = line.split("\t")
        yield Pair(part, claim, document, frozenset(map(int, numbers.split(","))))


def read_release(path: Path) -> Iterator[Pair]:
    """Pairs from `claims_train.jsonl` or `claims_dev.jsonl`; the sets of evidence of a pair are united."""
    part = "dev" if "dev" in path.stem else "train"
    for line in path.read_text(encoding="utf-8").splitlines():
        claim = json.loads(line)
        for document, sets in claim["evidence"].items():
            numbers = frozenset(number for evidence in sets for number in evidence["sentences"])
            yield Pair(part, str(claim["id"]), document, numbers)


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


def read_spans(abstracts: Path | None, documents: Mapping[str, Document]) -> dict[str, Spans]:
    """The sentences of each document."""
    if abstracts is None:
        return {id_: own_spans(document) for id_, document in documents.items()}
    lines = map(json.loads, abstracts.read_text(encoding="utf-8").splitlines())
    return {
        id_: release_spans(documents[id_], line["abstract"])
        for line in lines
        if (id_ := str(line["doc_id"])) in documents
    }


def by_colindex(
    way: Way,
    bits: int,
    pairs: Sequence[Pair],
    texts: Mapping[str, str],
    documents: Mapping[str, Document],
    spans: Mapping[str, Spans],
) -> list[list[int]]:
    """The order of each pair's sentences, best first."""
    encoder, orders = Encoder.load("minilm", max_tokens=way.max_tokens, window=way.window), []
    with tempfile.TemporaryDirectory() as folder:
        Index.build(Path(folder, "i"), documents.values(), encoder, BuildParams(bits=bits))
        with Index.open(Path(folder, "i"), encoder=encoder) as index:
            for pair in pairs:
                match = index.inspect(texts[pair.claim], pair.document, exact=False)
                places = {span: number for number, span in enumerate(spans[pair.document])}
                ranked = match.ranked_spans(spans[pair.document])
                orders.append([places[span.start, span.stop] for span in ranked])
    return orders


def by_bm25(
    pairs: Sequence[Pair], texts: Mapping[str, str], documents: Mapping[str, Document], spans: Mapping[str, Spans]
) -> list[list[int]]:
    """The same by BM25."""
    try:
        import bm25s
    except ImportError as error:
        raise click.ClickException("BM25 needs the package bm25s: pip install '.[bench]'.") from error
    firsts: dict[str, int] = {}
    said: list[str] = []
    for id_, document in documents.items():
        firsts[id_] = len(said)
        said += [document.content[start:stop] for start, stop in spans[id_]]
    retriever = bm25s.BM25()
    retriever.index(bm25s.tokenize(said, stopwords="en", show_progress=False), show_progress=False)
    orders = []
    for pair in pairs:
        (tokens,) = bm25s.tokenize([texts[pair.claim]], stopwords="en", return_ids=False, show_progress=False)
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


def standard_error(pairs: Sequence[Pair], differences: NDArray[np.floating]) -> float:
    """Of the mean difference, with the pairs of an abstract counted together."""
    numbers = np.unique([pair.document for pair in pairs], return_inverse=True)[1]
    sums = np.bincount(numbers, weights=differences - differences.mean())
    return float(np.sqrt((sums**2).sum() * len(sums) / (len(sums) - 1))) / len(pairs)


def rows(pairs: Sequence[Pair], orders: Mapping[str, Sequence[Sequence[int]]], spans: Mapping[str, Spans]) -> list[Row]:
    """One set of pairs: all rankings, and chance last."""
    hits = {name: [found(pairs, ranked, depth).astype(float) for depth in DEPTHS] for name, ranked in orders.items()}
    hits["chance"] = [np.array([chance(pair, len(spans[pair.document]), depth) for pair in pairs]) for depth in DEPTHS]
    theirs = hits[BASELINE][1]
    return [
        Row(
            ranking=name,
            first=round(float(first.mean()), 4),
            first_three=round(float(mine.mean()), 4),
            over_bm25=round(float((mine - theirs).mean()), 4),
            standard_error=round(standard_error(pairs, mine - theirs), 4),
            alone=int(((mine == 1) & (theirs == 0)).sum()),
            bm25_alone=int(((mine == 0) & (theirs == 1)).sum()),
        )
        for name, (first, mine) in hits.items()
    ]


def show(console: Console, title: str, measured: Sequence[Row]) -> None:
    """One set of pairs as a table."""
    table = Table("ranking", "first", "in the first 3", "over BM25", "alone", "BM25 alone", title=title)
    for row in measured:
        difference = f"{row.over_bm25:+.3f} ± {row.standard_error:.3f}"
        counts = ("", "") if row.ranking == "chance" else (str(row.alone), str(row.bm25_alone))
        table.add_row(row.ranking, f"{row.first:.3f}", f"{row.first_three:.3f}", difference, *counts)
    console.print(table)


@click.command(help=__doc__)
@click.argument("collection", type=click.Path(exists=True, path_type=Path))
@click.option("--claims", type=click.Path(exists=True, path_type=Path), help="claims_train.jsonl of the release.")
@click.option("--abstracts", type=click.Path(exists=True, path_type=Path), help="corpus.jsonl of the release.")
@click.option("--bits", type=int, default=2, show_default=True)
@click.option("--bfloat16", is_flag=True, help="Multiply in 16 bits.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="JSON to write.")
def main(
    collection: Path, claims: Path | None, abstracts: Path | None, bits: int, bfloat16: bool, output: Path | None
) -> None:
    """Rank, count, print."""
    queries = [collection / name for name in ("queries.train.jsonl.gz", "queries.jsonl.gz")]
    texts = {query.id: query.text for path in queries if path.exists() for query in read_queries(path)}
    every = list(read_tsv(EVIDENCE) if claims is None else read_release(claims))
    wanted = {pair.document for pair in every}
    documents = {
        document.id: document for document in read_corpus([collection / "corpus.jsonl.gz"]) if document.id in wanted
    }
    spans = read_spans(abstracts, documents)
    pairs = [pair for pair in every if max(pair.evidence) < len(spans[pair.document])]

    orders = {BASELINE: by_bm25(pairs, texts, documents, spans)}
    with torch.autocast("cpu", torch.bfloat16) if bfloat16 else contextlib.nullcontext():
        for way in WAYS:
            orders[way.name] = by_colindex(way, bits, pairs, texts, documents, spans)
    orders["order"] = [list(range(len(spans[pair.document]))) for pair in pairs]

    chosen = {
        "training claims": [pair.part == "train" for pair in pairs],
        **{name: [pair.set == name for pair in pairs] for name in ("development half", "test half", "claims_dev")},
    }
    console, results = Console(), {}
    for name, members in chosen.items():
        if not any(members):
            continue
        kept = np.flatnonzero(members).tolist()
        some = [pairs[at] for at in kept]
        measured = rows(some, {ranking: [ranked[at] for at in kept] for ranking, ranked in orders.items()}, spans)
        show(console, f"{name}: {len(some)} pairs", measured)
        results[name] = {"pairs": len(some), "rows": [asdict(row) for row in measured]}
    console.print(
        f"{len(pairs)} of {len(every)} pairs, {len(documents)} abstracts of {np.mean([*map(len, spans.values())]):.1f} sentences."
    )
    if output is not None:
        facts = {
            "abstracts": len(documents),
            "bits": bits,
            "bfloat16": bfloat16,
            "sentences": "own" if abstracts is None else "release",
        }
        output.write_text(json.dumps({**facts, "sets": results}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

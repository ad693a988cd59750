"""Choose the sample: a hundred questions, the passages that answer them, and passages that only look as if they did.

1. *Questions*: one in every 102 of the collection's, in its order.
2. *Answers*: every passage judged relevant to one of them.
3. *Neighbours*: passages of the same articles, the likeliest to be mistaken for an answer, to half of what is missing.
4. *Strangers*: passages of other articles for the rest.

Neighbours and strangers are taken in the order of a hash of their ids, so that the choice is the same everywhere and
follows nothing else. The passages stay in the collection's order.

    python samples/make_sample.py COLLECTION     # a folder: corpus.jsonl.gz, queries.jsonl.gz, qrels/test.tsv
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

PASSAGES = 2_000
EVERY = 102
HERE = Path(__file__).parent

Row = dict[str, str]


def read_rows(path: Path) -> list[Row]:
    """Read the objects of a gzipped JSON lines file."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def read_judgements(path: Path) -> list[tuple[str, str, str]]:
    """Read (query id, passage id, grade) from a BEIR qrels file, which has one heading line."""
    lines = path.read_text(encoding="utf-8").splitlines()[1:]
    return [(query, passage, grade) for query, passage, grade in (line.split("\t") for line in lines)]


def shuffled(rows: Iterable[Row]) -> list[Row]:
    """Order rows by a hash of their ids."""
    return sorted(rows, key=lambda row: hashlib.blake2b(row["_id"].encode(), digest_size=8).digest())


def choose(corpus: list[Row], answers: set[str]) -> list[Row]:
    """Choose the answers and as many neighbours and strangers as are missing."""
    articles = {row["title"] for row in corpus if row["_id"] in answers}
    rest = shuffled(row for row in corpus if row["_id"] not in answers)
    missing = PASSAGES - len(answers)
    neighbours = [row for row in rest if row["title"] in articles][: missing // 2]
    strangers = [row for row in rest if row["title"] not in articles][: missing - len(neighbours)]
    chosen = answers | {row["_id"] for row in neighbours + strangers}
    return [row for row in corpus if row["_id"] in chosen]


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write lines, gzipped without a date in the header where the name says .gz, so that equal rows make equal files."""
    content = "".join(f"{line}\n" for line in lines).encode()
    path.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)


def main() -> None:
    """Write the three files of the sample beside this script."""
    parser = argparse.ArgumentParser(description="Choose the sample corpus of colindex.")
    parser.add_argument("collection", type=Path, help="folder with corpus.jsonl.gz, queries.jsonl.gz, qrels/test.tsv")
    collection = parser.parse_args().collection

    queries = read_rows(collection / "queries.jsonl.gz")[::EVERY]
    asked = {row["_id"] for row in queries}
    judgements = [row for row in read_judgements(collection / "qrels" / "test.tsv") if row[0] in asked]
    passages = choose(read_rows(collection / "corpus.jsonl.gz"), {passage for _, passage, _ in judgements})

    write_lines(HERE / "wikipedia-2k.jsonl.gz", (json.dumps(row, ensure_ascii=False) for row in passages))
    write_lines(HERE / "queries.jsonl", (json.dumps(row, ensure_ascii=False) for row in queries))
    write_lines(HERE / "qrels.tsv", ["query-id\tcorpus-id\tscore", *map("\t".join, judgements)])
    print(f"{len(passages):,} passages, {len(queries)} questions, {len(judgements)} judgements")


if __name__ == "__main__":
    main()

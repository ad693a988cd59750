"""The reference page of the command line, made from the commands' own help.

1. Say once what holds for all commands.
2. Quote `--help` of the group and of each command, at a fixed width.

docs/CLI.md holds the result; a test fails when the two differ. `python docs/make_cli.py` writes it anew.
"""

from __future__ import annotations

import click

from colindex.cli import main

__all__ = ["reference"]

_WIDTH = 100

_PREFACE = """\
# The command line

<!-- Written by docs/make_cli.py from the commands' own help. Change the help, not this file. -->

Data goes to stdout; progress, notes and errors go to stderr. Progress is shown only on a terminal.

| exit code | meaning |
|---|---|
| 0 | done |
| 1 | an expected failure (`Error: ...` on stderr), an interrupt, or findings of `verify` |
| 2 | wrong usage |

Sizes are written like `512MiB` or `2GB`. `colindex --debug COMMAND ...` shows the traceback of an error.

## Corpora

| name | records | notes |
|---|---|---|
| `.jsonl`, `.ndjson`, `-` | one JSON object a line | an id may be a whole number; an object `metadata` is merged in |
| `.csv` | rows (RFC 4180), line feeds inside quotes | the first row names the columns |
| `.tsv` | one record a line, quotes are plain characters | the first line names the columns, or see below |
| `.parquet` | rows | needs pyarrow |
| `.txt`, `.md` | the whole file is one document | its id is the path as given |
| a folder | every `.txt` and `.md` below it, sorted | no hidden ones; the id is the path inside the folder |

A `.tsv` whose first line names no `text` is read as id and text if it has exactly two columns (MS MARCO).
A column of metadata in a `.csv` or `.tsv` becomes numbers, its empty cells null, where every other cell is a number as JSON
writes it: `2020`, `-1.5`, not `007`. One that is not keeps the column of that file text.

Each file may be compressed (`.gz`, `.zst`). Text is UTF-8. A record has an id (`_id` or `id`, text of 1 to 511 bytes),
a `text` and perhaps a `title`; every other field is metadata. A malformed record ends the build with its file and
line, or is passed over and counted with `--skip-invalid`.

## Results of `search`

The same rows in three formats.

- `table`: to read; with `--unit sentence` the best sentence in place of the text.
- `jsonl`: one object a hit, `{"query_id", "rank", "id", "score", "title", "text", "metadata"}`; the score of a document without
  vectors is null.
  With `--unit sentence` also `"span"` and `"sentence"`, the best sentence (or title) and where it stands, `[start, stop]` in
  characters of title, blank and text. Its score is the hit's; all three are null for a document without a sentence.
- `trec`: `query Q0 document rank score colindex`, as trec_eval and its relatives read it. Blanks separate its columns,
  so a blank inside an id is percent-encoded (`a b` becomes `a%20b`), and a note on stderr says how many.

`--where` takes an SQL expression, which SQLite evaluates for each document before any is scored; a document for which it is
NULL is not returned. Beside comparisons there are `LIKE`, `IN`, `BETWEEN`, `CASE`, and functions of text, numbers, dates and
JSON. Names that are no plain words stand in "double quotes", texts in 'single' ones. Lists and objects are JSON text:
`author ->> '$.name' = 'Ann'`, `EXISTS (SELECT 1 FROM json_each(tags) WHERE value = 'news')`. `true` and `false` are 1 and 0.
A text is never equal to a number, and greater than any: so `year >= 2020` holds for every year that is text, and
`year >= '2020'` for none that is a number. `CAST(year AS INTEGER) >= 2020` is right for both, and `typeof(year) = 'text'` finds
the former: those of a column that is not all numbers, or that was added before colindex told numbers.

`--stats` writes one JSON object a query to stderr: the seconds of each stage, candidates, bytes read, cache hits.

## Results of `inspect`

- `table`: the contributions of the query tokens, which add up to the score, then the text. What contributes is underlined and
  followed by the numbers of its query tokens; a pooled vector stands for several tokens, all of which are marked.
- `json`: one object a query, `{"id", "score", "exact_score", "query", "query_tokens", "document", "content", "tokens",
  "contributions", "similarities", "exact"}`. `tokens` are those of the document, `{"text", "span", "token_id", "stored"}`, with
  character offsets in `content`; `contributions` has one object a query token, `{"query_token", "token", "stored", "tokens",
  "texts", "score", "share", "exact"}`, whose `score`s add up to the score; `similarities` has a row for each query token and a
  column for each stored vector. `exact_score`, `exact` (as `similarities`) and the `exact` of a contribution (`{"stored",
  "score", "difference"}`) are of the vectors before quantization, or null.
- Comparisons as `json`: `{"names", "matches", "difference", "differences"}`, the second less the first.

A page (`--html`) needs no network and no other file; it follows the browser's dark or light mode.

## Results of `explain`

- `text`: the query, and what became of the document: returned; not in the index; left out by `--where`; met by no probe; met, but
  beyond the candidates; given up by the margin; or scored lower than the last hit. Where settings bring it in, they follow as
  options of `search`, tried before they are said: `Add to the search: --nprobe 128`.
- `json`: one object a query, `{"id", "kind", "text", "k", "rank", "score", "kth", "reach", "would_refine", "advice"}`. `kind` is
  `returned`, `absent`, `filtered`, `not met`, `beyond candidates`, `given up` or `refined lower`; `kth` the last score of the
  answer, null where that is not full; `reach` has one object a query token, `{"query_token", "text", "similarity", "nprobe"}`,
  with the similarity of the stored vector that is closest to it, and as many probes as meet the document from it.
  `would_refine` are settings, `{"nprobe", "candidates", "margin", "exact"}`, with which the document is scored, `advice` the
  same where they bring it in; otherwise null.

## Results of `eval`

With `--format json` one object: `{"ndcg@10", "recall@100", "mrr@10", "queries", "latency_ms": {"p50", "p95", "p99"},
"encode_ms": {"p50", "p95", "p99"}}`. `latency_ms` is the time of the index alone, `encode_ms` that of the encoder.
Metrics are computed by ir-measures over the queries that have judgements, on the order in which documents were returned.

## Changes

`add` and `delete` are one commit each: all of it is done, or nothing, whenever they are interrupted. With `--format json` they
print one object: `{"generation", "documents", "added", "replaced", "deleted", "tokens", "bytes", "centroids", "advice",
"seconds": {stage: ..}, "dry_run"}`; `documents` is what the index holds afterwards, `tokens` and `bytes` what was written,
`centroids` how many were learned from what was added, `advice` what to do about drift or growth, or null.

`compact` is one commit for each run of neighbouring segments (`--retrain`: one for all); an interrupt leaves those that are
done. Its object is `{"generation", "segments_before", "segments_after", "documents", "dropped", "bytes_read",
"bytes_written", "bytes_freed", "seconds", "dry_run", "runs"}`, with `{"segments", "documents", "dropped", "outputs",
"bytes_read", "bytes_written"}` for each run: the names of its segments, and the documents of each new one as `outputs`.

One command writes an index at a time; a second one says who the first is. Searches go on meanwhile.

## Results of `verify`, `export` and `import`

With `--format json`, `verify` prints an array with `{"kind", "path", "expected", "got", "message"}` for each finding, empty
where all is well; with `--repair` one object instead, `{"before", "generation", "documents", "lost", "rewritten", "dropped",
"notes", "dry_run", "report", "texts"}`, or null where nothing is to be repaired. `export` and `import` print
`{"generation", "documents", "tokens", "bytes", "seconds"}`.

## Backups

An index that nobody writes can be copied with any tool. One that may be written meanwhile cannot: a commit in the middle of
`cp -r` gives a folder that is neither before nor after it. Use one of

- `colindex export INDEX COPY --as-index`: the files of the newest generation, each compared with its checksum while it is copied,
  and a catalog of their own. The copy is an index and opens at once.
- `colindex export INDEX COPY` (or `COPY.tar.zst`): plain zarr and JSON lines that anybody can read, and that
  `colindex import` makes an index of again, with the same answers to the last bit. A README.txt in it explains the layout.

Both hold the generation that they copy, so that a writer may go on, and appear whole or not at all.
"""


def reference() -> str:
    """The whole page, in Markdown."""
    top = click.Context(main, info_name="colindex", **main.context_settings)
    sections = [_PREFACE, "## Commands\n", _section(main, top, "###")]
    for name, command in main.commands.items():
        context = click.Context(command, info_name=name, parent=top)
        sections.append(_section(command, context, "###"))
    return "\n".join(sections)


def _section(command: click.Command, context: click.Context, level: str) -> str:
    context.terminal_width = _WIDTH
    return f"{level} {context.command_path}\n\n```text\n{command.get_help(context)}\n```\n"

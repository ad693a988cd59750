"""`colindex search`: the same rows in three formats, data on stdout alone."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import ir_measures
import pytest

from colindex import Document, Hit, Index, SearchParams
from colindex.cli import output
from colindex.cli.options import SearchOptions
from colindex.cli.output import one_line, trec_id, write_hits_table
from colindex.cli.search import results
from colindex.evaluate import Query
from tests.cli.conftest import Run, word_encoder
from tests.words import WORDS, WordEncoder, batches


@pytest.fixture
def expected(index_path: Path) -> list[Hit]:
    with Index.open(index_path, encoder=word_encoder()) as index:
        return index.search("amber rare7", k=5)


def _json_lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_jsonl_holds_everything_about_a_hit(
    run: Run, index_path: Path, expected: list[Hit], corpus_documents: list[Document]
) -> None:
    result = run("search", index_path, "amber rare7", "-k", "5", "--format", "jsonl")
    assert (result.exit_code, result.stderr) == (0, "")
    rows = _json_lines(result.stdout)
    by_id = {document.id: document for document in corpus_documents}
    assert [(row["rank"], row["id"], row["score"]) for row in rows] == [
        (rank, hit.id, hit.score) for rank, hit in enumerate(expected, 1)
    ]
    for row in rows:
        document = by_id[row["id"]]
        assert list(row) == ["query_id", "rank", "id", "score", "title", "text", "metadata"]
        assert (row["title"], row["text"], row["metadata"]) == (document.title, document.text, document.metadata)


def test_the_formats_hold_the_same_rows(run: Run, index_path: Path, expected: list[Hit]) -> None:
    ids = [hit.id for hit in expected]
    trec = run("search", index_path, "amber rare7", "-k", "5", "--format", "trec").stdout
    assert [line.split()[2] for line in trec.splitlines()] == ids
    table = run("search", index_path, "amber rare7", "-k", "5").stdout
    assert [line.split()[2] for line in table.splitlines() if " doc-" in line] == ids
    assert "amber rare7" in table


def test_a_run_file_is_read_by_trec_tools(run: Run, index_path: Path, tmp_path: Path, expected: list[Hit]) -> None:
    queries = "q1\tamber rare7\nq2\tbasin\n"
    result = run("search", index_path, "-", "-k", "5", "--format", "trec", stdin=queries)
    (tmp_path / "run").write_text(result.stdout)
    rows = list(ir_measures.read_trec_run(str(tmp_path / "run")))  # type: ignore[no-untyped-call]
    assert [(row.query_id, row.doc_id) for row in rows[:5]] == [("q1", hit.id) for hit in expected]
    assert [row.score for row in rows[:5]] == pytest.approx([hit.score for hit in expected], rel=1e-6)
    assert len(rows) == 10
    assert all(line.split()[5] == "colindex" for line in result.stdout.splitlines())


@pytest.mark.parametrize("more", [[], ["--stats"], ["--exact"]])
def test_a_condition_on_metadata(run: Run, index_path: Path, more: list[str]) -> None:
    where = "number BETWEEN 10 AND 13 AND title <> 'title4'"
    result = run("search", index_path, "amber", "--where", where, "--format", "jsonl", *more)
    assert result.exit_code == 0, result.stderr
    assert {row["id"] for row in _json_lines(result.stdout)} == {"doc-10", "doc-12", "doc-13"}
    assert "No document" not in result.stderr
    result = run("search", index_path, "amber", "--where", "number < 0", "--format", "jsonl", *more)
    assert (result.exit_code, result.stdout) == (0, "")
    assert "No document meets the condition." in result.stderr
    assert run("search", index_path, "amber", "--where", "typeof(number) = 'integer'").stderr == ""


def test_a_bad_condition_is_quoted(run: Run, index_path: Path) -> None:
    result = run("search", index_path, "amber", "--where", "nummer = 5")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: where: expected an SQL expression")
    assert "got 'nummer = 5': no such column: nummer. Columns: id, title, number;" in result.stderr


@pytest.mark.parametrize(
    ("stdin", "ids"),
    [
        ("amber\n\nbasin\n", ["1", "3"]),
        ("a\tamber\nb\tbasin\n", ["a", "b"]),
        ('{"_id": "a", "text": "amber"}\n{"_id": 2, "text": "basin"}\n', ["a", "2"]),
    ],
)
def test_queries_from_standard_input(run: Run, index_path: Path, stdin: str, ids: list[str]) -> None:
    result = run("search", index_path, "-", "-k", "2", "--format", "jsonl", stdin=stdin)
    assert result.exit_code == 0, result.stderr
    found = _json_lines(result.stdout)
    assert [row["query_id"] for row in found] == [id_ for id_ in ids for _ in range(2)]
    single = run("search", index_path, "basin", "-k", "2", "--format", "jsonl")
    assert [row["id"] for row in found[2:]] == [row["id"] for row in _json_lines(single.stdout)]


def test_more_queries_than_one_batch(run: Run, index_path: Path) -> None:
    stdin = "".join(f"q{number}\trare{number % 120}\n" for number in range(150))
    result = run("search", index_path, "-", "-k", "1", "--format", "trec", stdin=stdin)
    assert [line.split()[0] for line in result.stdout.splitlines()] == [f"q{number}" for number in range(150)]


def test_nothing_on_standard_input_is_nothing_to_do(run: Run, index_path: Path) -> None:
    result = run("search", index_path, "-", stdin="\n")
    assert (result.exit_code, result.stdout) == (0, "")


def test_results_before_a_malformed_query_line_are_no_reason_to_go_on(run: Run, index_path: Path) -> None:
    result = run("search", index_path, "-", "--format", "trec", stdin='{"_id": "a", "text": "amber"}\noops\n')
    assert result.exit_code == 1
    assert "Error: standard input, line 2, column 1: expected JSON" in result.stderr


def test_stats_go_to_stderr(run: Run, index_path: Path) -> None:
    result = run("search", index_path, "-", "--format", "jsonl", "--stats", stdin="a\tamber\nb\tbasin\n")
    assert len(_json_lines(result.stdout)) == 20
    first, second = _json_lines(result.stderr)
    assert (first["query_id"], second["query_id"]) == ("a", "b")
    assert first["candidates"] > 0
    assert first["seconds"]["encode"] >= 0
    assert {"bytes_read", "cache_hits", "cache_misses", "prefetch_hits", "reads", "postings", "gathered"} <= set(first)


def test_settings_reach_the_index(
    run: Run, index_path: Path, monkeypatch: pytest.MonkeyPatch, loaded: list[tuple[str, dict[str, Any]]]
) -> None:
    seen: dict[str, Any] = {}
    whole = Index.open

    def opened(path: Path, **settings: Any) -> Index:
        seen.update(settings)
        return whole(path, **settings)

    def search_batch(self: Index, texts: list[str], k: int, **settings: Any) -> list[list[Hit]]:
        seen.update(k=k, **settings)
        return [[] for _ in texts]

    monkeypatch.setattr(Index, "open", opened)
    monkeypatch.setattr(Index, "search_batch", search_batch)
    options = ("-k", "3", "--memory", "64MiB", "--threads", "2", "--nprobe", "5", "--candidates", "6")
    result = run("search", index_path, "amber", *options, "--encoder", "mine", "--device", "cpu")
    assert result.exit_code == 0, result.stderr
    assert seen["where"] is None
    assert (seen["memory"], seen["threads"], seen["k"]) == ("64MiB", 2, 3)
    assert seen["params"] == SearchParams(nprobe=5, candidates=6, exact=None)
    assert loaded == [("mine", {"device": "cpu", "window": "document"})]
    run("search", index_path, "amber", "--exact")
    assert seen["params"] == SearchParams(exact=True)


def test_the_index_names_its_encoder(run: Run, index_path: Path, loaded: list[tuple[str, dict[str, Any]]]) -> None:
    assert run("search", index_path, "amber").exit_code == 0
    assert loaded == [("words", {"device": None, "window": "document"})]


@dataclass
class Recorder:
    """An index that notes how many queries come at once."""

    sizes: list[int] = field(default_factory=list)

    def search_batch(self, texts: list[str], k: int, *, params: SearchParams, where: str | None) -> list[list[Hit]]:
        self.sizes.append(len(texts))
        return [[] for _ in texts]


@pytest.mark.parametrize(("terminal", "sizes"), [(True, [1] * 70), (False, [64, 6])])
def test_who_types_queries_gets_each_answer_at_once(
    monkeypatch: pytest.MonkeyPatch, terminal: bool, sizes: list[int]
) -> None:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: terminal))
    opening: dict[str, Any] = {"memory": "1MiB", "threads": 1, "encoder": None, "device": None}
    options = SearchOptions(**opening, k=1, nprobe=1, candidates=1, margin=2.5, exact=False)
    index = Recorder()
    queries = [Query(str(number), "text") for number in range(70)]
    answered = [query for query, _ in results(cast(Index, index), queries, options, stats=False)]
    assert answered == queries
    assert index.sizes == sizes


def test_bytes_that_are_no_text_are_wrong_usage(run: Run, index_path: Path) -> None:
    result = run("search", index_path, "caf\udce9")
    assert result.exit_code == 2
    assert "expected UTF-8" in result.stderr


def test_another_encoder_is_refused(run: Run, index_path: Path) -> None:
    result = run("search", index_path, "amber", "--encoder", "other")
    assert result.exit_code == 1
    assert "the encoder is not the one that the index was built with" in result.stderr


def test_too_little_memory_is_refused(run: Run, index_path: Path) -> None:
    result = run("search", index_path, "amber", "--memory", "1KiB")
    assert result.exit_code == 1
    assert "expected a memory budget of at least" in result.stderr


def test_an_index_of_vectors_names_no_encoder(run: Run, tmp_path: Path) -> None:
    batch = WordEncoder().encode_documents([Document("a b", "amber"), Document("c", "cedar")])
    Index.build_from_vectors(tmp_path / "v", [batch])
    result = run("search", tmp_path / "v", "amber")
    assert result.exit_code == 1
    assert "name one with --encoder" in result.stderr
    result = run("search", tmp_path / "v", "amber", "--encoder", "words", "--format", "trec", "-k", "1")
    assert result.stdout.startswith("1 Q0 a%20b 1 ")
    assert result.stderr == "Blanks are percent-encoded in 1 document id of this run.\n"
    result = run("search", tmp_path / "v", "amber", "--encoder", "words")
    assert "a b" in result.stdout


# ---- by sentence


@pytest.fixture(scope="module")
def stories(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """80 documents of three or four sentences, every fourth with a title, and one without any text."""
    documents = []
    for number in range(80):
        pairs = [(WORDS[at], WORDS[at - 1 - number % 7]) for at in range(number % 5, len(WORDS), 9)]
        text = " ".join(f"{first.capitalize()} {second} tail{number}." for first, second in pairs)
        documents.append(Document(f"doc-{number}", text, title="" if number % 4 else "Amber heading"))
    path = tmp_path_factory.mktemp("stories") / "stories.colindex"
    Index.build(path, [*documents, Document("empty", "")], word_encoder())
    return path


@pytest.mark.parametrize("more", [[], ["--exact"], ["--stats"], ["--where", "title <> ''"]])
def test_sentences_are_ranked_as_the_library_ranks_them(run: Run, stories: Path, more: list[str]) -> None:
    asked = ("search", stories, "amber kelp", "-k", "9", "--unit", "sentence", *more)
    rows = _json_lines(run(*asked, "--format", "jsonl").stdout)
    where, params = (more[1] if "--where" in more else None), SearchParams(exact="--exact" in more or None)
    with Index.open(stories, encoder=word_encoder()) as index:
        hits = index.search("amber kelp", 9, params=params, where=where, unit="sentence")
        assert [(row["id"], row["score"], tuple(row["span"])) for row in rows] == [
            (hit.id, hit.score, hit.span) for hit in hits
        ]
        assert [row["sentence"] for row in rows] == [hit.text for hit in hits]
        assert [row["text"] for row in rows] == [hit.document.text for hit in hits]
    for row in rows:
        content = f"{row['title']} {row['text']}" if row["title"] else row["text"]
        assert row["sentence"] == content[slice(*row["span"])]
    assert any(row["sentence"] != row["text"] for row in rows)
    trec = run(*asked, "--format", "trec").stdout
    assert [line.split()[2] for line in trec.splitlines()] == [row["id"] for row in rows]


def test_a_table_shows_the_sentence(run: Run, stories: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    with Index.open(stories, encoder=word_encoder()) as index:
        hits = index.search("kelp", 5, unit="sentence")
    shown = run("search", stories, "kelp", "-k", "5", "--unit", "sentence").stdout
    rows = [line for line in shown.splitlines() if " doc-" in line]
    assert len(rows) == 5
    for row, hit in zip(rows, hits, strict=True):
        assert row.rstrip().endswith(f" {hit.text}")
        assert hit.text != hit.document.text


@pytest.mark.parametrize("width", [60, 80])
def test_a_long_sentence_is_wrapped(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], width: int
) -> None:
    sentence = " ".join(f"word{number}" for number in range(40))
    document = Document("doc-1", f"Before it. {sentence}. After it. {sentence * 3}.", "Heading")
    content = document.content
    spans = [(content.index("word0"), content.index(" After")), (content.index("After"), len(content))]
    text = _table(monkeypatch, capsys, width, [Hit(document.id, 1.0, lambda: document, span) for span in spans])
    assert max(map(len, text.splitlines())) <= width
    assert all(f"word{number}" in text for number in range(40))
    assert "Before" not in text
    assert text.rstrip().endswith("…")


def test_queries_from_standard_input_by_sentence(run: Run, stories: Path) -> None:
    options = ("-k", "3", "--unit", "sentence", "--format", "jsonl")
    rows = _json_lines(run("search", stories, "-", *options, stdin="a\tamber\nb\tkelp\n").stdout)
    assert [row["query_id"] for row in rows] == ["a"] * 3 + ["b"] * 3
    for text, some in (("amber", rows[:3]), ("kelp", rows[3:])):
        single = _json_lines(run("search", stories, text, *options).stdout)
        assert some == [row | {"query_id": some[0]["query_id"]} for row in single]


def test_a_document_without_a_sentence(run: Run, stories: Path) -> None:
    options = ("--where", "id = 'empty'", "--unit", "sentence")
    (row,) = _json_lines(run("search", stories, "amber", *options, "--format", "jsonl").stdout)
    assert (row["id"], row["score"], row["span"], row["sentence"]) == ("empty", None, None, None)
    assert "empty" in run("search", stories, "amber", *options).stdout


def test_the_score_of_a_document_without_vectors_is_json_too(run: Run, stories: Path) -> None:
    said = run("search", stories, "amber", "--where", "id = 'empty'", "--format", "jsonl").stdout
    assert json.loads(said, parse_constant=pytest.fail)["score"] is None


def test_documents_are_what_is_searched_for_unless_asked_otherwise(run: Run, stories: Path) -> None:
    asked = ("search", stories, "amber kelp", "--format", "jsonl")
    assert run(*asked, "--unit", "document").stdout == run(*asked).stdout
    assert all("span" not in row for row in _json_lines(run(*asked).stdout))


def test_an_index_of_vectors_has_no_sentences(run: Run, tmp_path: Path) -> None:
    Index.build_from_vectors(tmp_path / "v", batches(5))
    result = run("search", tmp_path / "v", "amber", "--encoder", "words", "--unit", "sentence")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "does not know where in a text its tokens stand" in result.stderr


# ---- output


@pytest.mark.parametrize(
    ("id_", "expected"),
    [("plain", "plain"), ("a b\tc", "a%20b%09c"), ("50%", "50%"), ("a\u2003b", "a%E2%80%83b"), ("é", "é")],
)
def test_ids_of_a_run_hold_no_blanks(id_: str, expected: str) -> None:
    assert trec_id(id_) == expected
    assert len(trec_id(id_).split()) == 1


def test_a_cell_is_one_line_that_steers_no_terminal() -> None:
    assert one_line(" a\r\n\tb \x1b[31m\x07") == "a b \ufffd[31m\ufffd"


def _table(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], width: int, hits: list[Hit]) -> str:
    monkeypatch.setenv("COLUMNS", str(width))
    write_hits_table(Query("q", "what [bold]is[/bold] :smile:"), hits)
    return capsys.readouterr().out


@pytest.mark.parametrize("width", [50, 80, 200])
def test_a_table_fits_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], width: int
) -> None:
    document = Document("doc-1", "some [red]text[/red] and :smile:\nthat goes on " * 30, "A title " * 20)
    text = _table(monkeypatch, capsys, width, [Hit(document.id, 12.5, lambda: document)] * 3)
    assert max(map(len, text.splitlines())) <= width
    assert text.count("doc-1") == text.count("12.5000") == 3
    assert "what [bold]is[/bold] :smile:" in text
    assert ("[red]text[/red]" in text) == (width >= 80)


def test_a_table_without_titles_or_hits(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert "title" not in _table(monkeypatch, capsys, 80, [Hit("a", 1.0)])
    assert "rank" in _table(monkeypatch, capsys, 80, [])


def test_only_output_writes_data() -> None:
    for path in Path(output.__file__).parent.glob("*.py"):
        if path.name not in ("output.py", "reference.py"):
            assert "click.echo(" not in path.read_text(), path

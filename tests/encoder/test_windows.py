"""Windows: the tokens of a document are those of its windows, each encoded alone, with places in the whole document."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from colindex import BuildParams, Index
from colindex.cli import main
from colindex.encoder import Encoder
from colindex.errors import EncoderMismatchError, ParameterError
from colindex.sentences import sentences
from colindex.types import Document
from colindex.windows import cut, moved
from tests.encoder.oracle import SINGLE, Encoders, Folders

STORY = Document("a", "The cat wrote. Who wrote?  The world!", title="Café dune")
SAID = ["Café dune", "The cat wrote.", "Who wrote?", "The world!"]


@pytest.fixture(scope="module")
def by_sentence(folders: Folders) -> Encoders:
    """Each kind, with sentences for windows."""
    return {kind: Encoder.load(folder, window="sentence") for kind, folder in folders.items()}


@pytest.mark.parametrize("kind", ["transformers", "plain", "stanford", "pylate", "native", "lengths"])
def test_a_sentence_has_the_vectors_that_it_has_alone(kind: str, encoders: Encoders, by_sentence: Encoders) -> None:
    together, alone = by_sentence[kind].encode_documents([STORY]), encoders[kind].encode_documents(SAID)
    assert together.token_ids is not None and alone.token_ids is not None
    assert together.token_ids.tolist() == alone.token_ids.tolist()
    assert together.vectors.astype(np.float32) == pytest.approx(alone.vectors.astype(np.float32), abs=1e-3)
    whole = encoders[kind].encode_documents([STORY])
    assert not np.array_equal(whole.vectors[: len(together.vectors)], together.vectors[: len(whole.vectors)])


@pytest.mark.parametrize("kind", ["transformers", "plain", "stanford", "pylate", "native"])
def test_places_are_those_in_the_document(kind: str, by_sentence: Encoders) -> None:
    batch = by_sentence[kind].encode_documents([Document("b", "Cat. Dune!"), STORY])
    assert batch.spans is not None
    spans = batch.spans[batch.offsets[1] :]
    said = [STORY.content[start:stop].lower() for start, stop in spans.tolist() if stop]
    words = [word for word in said if word.isalnum()]
    assert words == ["café", "dune", "the", "cat", "wrote", "who", "wrote", "the", "world"]
    starts = spans[spans[:, 1] > 0, 0]
    assert np.all(np.diff(starts) > 0)


def test_long_documents_are_encoded_whole(encoders: Encoders, by_sentence: Encoders) -> None:
    long, sentence = Document("long", "The cat wrote who. " * 30), Document("sentence", "cat " * 500)
    length = encoders["transformers"].max_document_tokens - 2  # [CLS] and [SEP] count, and are left out
    assert len(encoders["transformers"].encode_documents([long]).vectors) == length
    assert len(by_sentence["transformers"].encode_documents([long]).vectors) == 30 * 5
    assert len(by_sentence["transformers"].encode_documents([sentence]).vectors) == length  # as a document would be


def test_a_document_that_says_nothing_is_encoded_as_it_stands(encoders: Encoders, by_sentence: Encoders) -> None:
    for kind, encoder in by_sentence.items():
        found, expected = (one.encode_documents(["", " \n", "cat"]) for one in (encoder, encoders[kind]))
        assert found.offsets.tolist() == expected.offsets.tolist()
        assert found.vectors == pytest.approx(expected.vectors, abs=1e-3)


def test_queries_know_no_windows(encoders: Encoders, by_sentence: Encoders) -> None:
    text = "Who wrote dune? The cat."
    assert by_sentence["native"].encode_query(text) == pytest.approx(encoders["native"].encode_query(text), abs=SINGLE)


def test_progress_counts_documents(folders: Folders) -> None:
    seen: list[int] = []
    encoder = Encoder.load(folders["plain"], batch_size=2, window="sentence")
    encoder.encode_documents([STORY, "Cat.", ""], progress=seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == 3


def test_the_fingerprint_tells_windows_apart(encoders: Encoders, by_sentence: Encoders, folders: Folders) -> None:
    whole, parts = encoders["plain"].fingerprint, by_sentence["plain"].fingerprint
    assert {**whole, "window": "sentence"} == parts  # as it was before there were windows, so that old indexes open
    assert Encoder.load(folders["plain"], window="document").fingerprint == whole
    other: Any = "paragraph"
    with pytest.raises(ParameterError, match="window: expected 'document' or 'sentence', got 'paragraph'"):
        Encoder.load(folders["plain"], window=other)


def test_an_index_opens_with_the_window_that_it_was_built_with(
    tmp_path: Path, encoders: Encoders, by_sentence: Encoders
) -> None:
    Index.build(tmp_path / "i", [STORY], by_sentence["transformers"], BuildParams(bits=8))
    with pytest.raises(EncoderMismatchError, match="window"):
        Index.open(tmp_path / "i", encoder=encoders["transformers"])
    with Index.open(tmp_path / "i", encoder=by_sentence["transformers"]) as index:
        match = index.inspect("who wrote", "a")
        assert match.exact is not None
        assert match.similarities == pytest.approx(match.exact, abs=0.05)
        hit = index.search("who wrote?", unit="sentence")[0]
        assert hit.text == "Who wrote?"
        assert hit.score == pytest.approx(3, abs=0.05)  # its three tokens, encoded as those of the query were


@given(st.lists(st.text(max_size=40), max_size=4), st.text(max_size=8))
def test_windows_are_the_sentences_of_each_document(texts: list[str], title: str) -> None:
    documents = [Document(str(number), text, title=title) for number, text in enumerate(texts)]
    windows = cut(documents, "sentence")
    starts, said = windows.by_document(windows.starts), windows.by_document(windows.texts)
    for document, places, parts in zip(documents, starts, said, strict=True):
        expected = sentences(document) or [(0, len(document.content))]
        assert [(start, start + len(part)) for start, part in zip(places, parts, strict=True)] == expected
        assert all(document.content[start:].startswith(part) for start, part in zip(places, parts, strict=True))
    assert cut(documents, "document").texts == tuple(document.content for document in documents)


def test_tokens_without_a_place_stay_without_one() -> None:
    spans = np.array([[0, 0], [0, 3], [4, 5], [0, 0]], np.int32)
    assert moved(spans, 7).tolist() == [[0, 0], [7, 10], [11, 12], [0, 0]]
    assert moved(spans, 7).dtype == np.int32


def test_commands_keep_the_window_of_the_index(tmp_path: Path, folders: Folders) -> None:
    index, encoder = tmp_path / "i", str(folders["plain"])

    def run(*arguments: str, stdin: str | None = None) -> str:
        result = CliRunner().invoke(main, arguments, input=stdin)
        assert result.exit_code == 0, result.stderr
        return result.stdout

    line = '{{"_id": "{}", "text": "The cat wrote. Who wrote dune?"}}\n'
    run("build", "-", "-o", str(index), "--encoder", encoder, "--window", "sentence", stdin=line.format("a"))
    run("add", str(index), "-", stdin=line.format("b"))
    run("compact", str(index), "--retrain")
    assert {"a", "b"} == {
        json.loads(hit)["id"] for hit in run("search", str(index), "cat", "--format", "jsonl").splitlines()
    }
    with Index.open(index, encoder=Encoder.load(encoder, window="sentence")) as opened:
        matches = [opened.inspect("cat", id_) for id_ in ("a", "b")]
    assert matches[0].exact is not None and matches[1].exact is not None
    assert matches[0].exact == pytest.approx(matches[1].exact, abs=1e-3)

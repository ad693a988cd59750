"""Each span is the token's place in the text."""

from __future__ import annotations

import pytest

from colindex.types import Document
from tests.encoder.oracle import TEXT, Encoders


@pytest.mark.parametrize("kind", ["transformers", "plain", "stanford", "pylate", "native"])
def test_spans_point_at_the_words(kind: str, encoders: Encoders) -> None:
    document = Document("a", "the cat wrote", title="Café 日本 🎉 naïve cafe\u0301")
    batch = encoders[kind].encode_documents([document])
    assert batch.spans is not None
    assert batch.token_ids is not None
    pieces = [document.content[start:stop] for start, stop in batch.spans.tolist() if stop]
    expected = ["Café", "日", "本", "🎉", "naïve", "cafe\u0301", "the", "cat", "wrote"]
    if kind == "plain":
        assert pieces == expected
    else:
        assert pieces == expected[: len(pieces)]
        assert len(pieces) >= 7


@pytest.mark.parametrize("kind", ["plain", "stanford", "pylate", "native"])
def test_what_the_text_does_not_hold_has_no_place(kind: str, encoders: Encoders) -> None:
    for batch in (encoders[kind].encode_documents(["cat"]), encoders[kind].encode_queries(["cat"])):
        assert batch.spans is not None
        placed = [span for span in batch.spans.tolist() if span != [0, 0]]
        assert placed == [[0, 3]]
        assert len(batch.spans) > 2


def test_long_texts_are_cut(encoders: Encoders) -> None:
    batch = encoders["plain"].encode_documents(["cat " * 500])
    assert encoders["plain"].max_document_tokens == 24
    assert len(batch.vectors) == 22  # without [CLS] and [SEP], which count


def test_columns_agree(encoders: Encoders) -> None:
    for encoder in encoders.values():
        batch = encoder.encode_documents([TEXT, "", "...", "the cat"])
        assert len(batch) == 4
        assert batch.vectors.shape[1] == encoder.dim == batch.dim

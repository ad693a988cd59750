"""The texts of a call come back in order, and what stands beside a text does not change it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from colindex.encoder import Encoder
from colindex.types import Document
from tests import checkpoints
from tests.encoder.oracle import SINGLE, TEXT, Encoders, Folders

TEXTS = ("cat", TEXT, "", "the dune", "who wrote the cat? " * 3, " ", "cat")


@pytest.mark.parametrize("kind", ["transformers", "plain", "stanford", "pylate", "native", "pooling"])
def test_each_text_is_encoded_as_if_alone(kind: str, encoders: Encoders, folders: Folders) -> None:
    encoder = Encoder.load(folders[kind], batch_size=3)
    together = encoder.encode_documents(TEXTS)
    queries = encoder.encode_queries(TEXTS)
    for number, text in enumerate(TEXTS):
        alone = encoders[kind].encode_documents([text])
        row = slice(*together.offsets[number : number + 2].tolist())
        assert together.vectors[row].astype(np.float32) == pytest.approx(alone.vectors.astype(np.float32), abs=1e-3)
        if together.token_ids is not None and alone.token_ids is not None:
            assert np.array_equal(together.token_ids[row], alone.token_ids)
        row = slice(*queries.offsets[number : number + 2].tolist())
        assert queries.vectors[row] == pytest.approx(encoders[kind].encode_query(text), abs=SINGLE)


def test_the_same_call_gives_the_same_bytes(encoders: Encoders) -> None:
    for encoder in encoders.values():
        first, second = encoder.encode_documents(TEXTS), encoder.encode_documents(TEXTS)
        assert first.vectors.tobytes() == second.vectors.tobytes()


def test_ids_are_the_documents_or_positions(encoders: Encoders) -> None:
    batch = encoders["plain"].encode_documents([Document("x", "cat"), "dune", Document("y", "the", title="cat")])
    assert batch.ids == ("x", "1", "y")
    assert encoders["plain"].encode_queries(["cat", "dune"]).ids == ("0", "1")
    title = encoders["plain"].encode_documents(["cat the"])
    assert np.array_equal(batch.vectors[batch.offsets[2] :], title.vectors)


def test_nothing_to_encode(encoders: Encoders) -> None:
    batch = encoders["stanford"].encode_documents([])
    assert len(batch) == 0
    assert batch.vectors.shape == (0, 16)
    assert batch.token_ids is not None
    assert batch.spans is not None


@pytest.mark.parametrize("text", ["", "  \n ", "...!?", "\x00", "\u200b", "\ud800", "☃"])
def test_texts_of_little_or_nothing(text: str, encoders: Encoders) -> None:
    for encoder in encoders.values():
        assert len(encoder.encode_documents([text])) == 1
        assert encoder.encode_query(text).shape[1] == encoder.dim


def test_threads_may_share_an_encoder(encoders: Encoders) -> None:
    encoder = encoders["stanford"]
    expected = encoder.encode_documents(TEXTS).vectors, encoder.encode_query(TEXT)

    def both(_: int) -> bool:
        found = encoder.encode_documents(TEXTS).vectors, encoder.encode_query(TEXT)
        return all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(both, range(24)))


def test_progress_counts_documents(folders: Folders) -> None:
    seen: list[int] = []
    Encoder.load(folders["plain"], batch_size=2).encode_documents(["cat"] * 5, progress=seen.append)
    assert seen == [2, 4, 5]


def test_unknown_words_of_the_skip_list_do_not_drop_unknown_tokens(encoders: Encoders) -> None:
    for kind in ("stanford", "pylate", "native"):  # none of their vocabularies knows § or ^
        batch = encoders[kind].encode_documents(["cat ☃ ^"])
        assert batch.token_ids is not None
        assert batch.token_ids.tolist().count(checkpoints.VOCABULARY.index("[UNK]")) == 2

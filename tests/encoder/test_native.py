"""Checkpoints of sentence-transformers' own MultiVectorEncoder."""

from __future__ import annotations

import numpy as np
import pytest

from tests.encoder.oracle import HALF, SINGLE, TEXT, Encoders, Folders


def test_as_the_library_itself_encodes(encoders: Encoders, folders: Folders) -> None:
    from sentence_transformers import MultiVectorEncoder

    library = MultiVectorEncoder(str(folders["native"]), device="cpu", local_files_only=True)
    texts = [TEXT, "the cat", ""]
    batch = encoders["native"].encode_documents(texts)
    for number, expected in enumerate(library.encode_document(texts, convert_to_numpy=True)):
        found = batch.vectors[batch.offsets[number] : batch.offsets[number + 1]].astype(np.float32)
        assert found == pytest.approx(expected, abs=HALF)
    assert encoders["native"].encode_query("the cat") == pytest.approx(
        library.encode_query("the cat", convert_to_numpy=True), abs=SINGLE
    )


def test_lengths_of_the_model_s_own_stay_in_float32(encoders: Encoders) -> None:
    batch = encoders["lengths"].encode_documents([TEXT])
    assert batch.vectors.dtype == np.float32
    assert not encoders["lengths"].fingerprint["normalized"]
    assert np.linalg.norm(batch.vectors, axis=1).max() > 1.5


def test_a_model_that_pools_by_itself_names_no_tokens(encoders: Encoders) -> None:
    assert encoders["pooling"].pools_tokens
    assert not encoders["native"].pools_tokens
    batch = encoders["pooling"].encode_documents([TEXT, "cat"])
    assert batch.token_ids is None
    assert batch.spans is None
    unpooled = encoders["native"].encode_documents([TEXT, "cat"])
    assert np.diff(batch.offsets).tolist() == [1 + (n - 1) // 2 for n in np.diff(unpooled.offsets).tolist()]
    assert encoders["pooling"].encode_queries([TEXT]).token_ids is not None  # only documents are pooled

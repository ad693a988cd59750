"""Stanford ColBERT checkpoints: markers, expansion, punctuation and projection as its own library has them."""

from __future__ import annotations

import string

import numpy as np
import pytest

from colindex.encoder import Encoder
from colindex.errors import EncoderError
from tests import checkpoints
from tests.encoder.oracle import HALF, SINGLE, TEXT, Copied, Encoders, Folders, Oracle, check, expanded


@pytest.fixture(scope="module")
def oracle(folders: Folders) -> Oracle:
    return Oracle(folders["stanford"], transformer="bert.")


def test_documents(encoders: Encoders, oracle: Oracle) -> None:
    ids = oracle.ids(TEXT, 20, "[unused1]")
    kept = oracle.without(ids, string.punctuation)
    assert 0 < (~kept).sum() < len(ids)
    check(
        encoders["stanford"].encode_documents([TEXT]),
        np.array(ids)[kept],
        oracle.vectors(ids)[kept],
        HALF,
    )


def test_queries_are_filled_with_unattended_masks(encoders: Encoders, oracle: Oracle) -> None:
    ids, attended = expanded(oracle, "who wrote dune?", 12, "[unused0]")
    assert attended == 7
    batch = encoders["stanford"].encode_queries(["who wrote dune?"])
    check(batch, ids, oracle.vectors(ids, attended), SINGLE)


def test_weights_in_the_older_file_format(encoders: Encoders, copied: Copied) -> None:
    import torch
    from safetensors.torch import load_file

    folder = copied("stanford")
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    found = Encoder.load(folder)
    assert np.array_equal(found.encode_query(TEXT), encoders["stanford"].encode_query(TEXT))
    assert found.fingerprint == encoders["stanford"].fingerprint


def test_without_its_projection(copied: Copied) -> None:
    folder = copied("stanford")
    checkpoints.drop_weights(folder / "model.safetensors", "linear.weight")
    with pytest.raises(EncoderError, match=r"cannot be loaded.*linear\.weight"):
        Encoder.load(folder)

"""PyLate checkpoints: prefixes, expansion, punctuation and several projections as its own library has them."""

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
    return Oracle(folders["pylate"], projections=[folders["pylate"] / "1_Dense", folders["pylate"] / "2_Dense"])


def test_documents_pass_every_projection(encoders: Encoders, oracle: Oracle) -> None:
    ids = oracle.ids(TEXT, 20, "[D] ")
    kept = oracle.without(ids, string.punctuation)
    assert len(oracle.projections) == 2
    batch = encoders["pylate"].encode_documents([TEXT])
    check(batch, np.array(ids)[kept], oracle.vectors(ids)[kept], HALF)


def test_queries_are_filled_with_masks(encoders: Encoders, oracle: Oracle) -> None:
    ids, attended = expanded(oracle, "who wrote dune?", 12, "[Q] ")
    batch = encoders["pylate"].encode_queries(["who wrote dune?"])
    check(batch, ids, oracle.vectors(ids, attended), SINGLE)


def test_before_it_named_its_model_type(encoders: Encoders, copied: Copied) -> None:
    folder = copied("pylate")
    checkpoints.edit_json(folder / "config_sentence_transformers.json", model_type=None)
    old, new = Encoder.load(folder).encode_documents([TEXT]), encoders["pylate"].encode_documents([TEXT])
    assert np.array_equal(old.vectors, new.vectors)


def test_projections_that_the_checkpoint_does_not_list(copied: Copied) -> None:
    folder = copied("pylate")
    (folder / "modules.json").unlink()
    with pytest.raises(EncoderError, match="holds 0 projections and its model needs 1"):
        Encoder.load(folder)


def test_projections_with_foreign_code(copied: Copied) -> None:
    folder = copied("pylate")
    checkpoints.edit_json(folder / "2_Dense" / "config.json", activation_function="their.Activation")
    with pytest.raises(EncoderError, match=r"their\.Activation is foreign code"):
        Encoder.load(folder)


def test_projections_without_weights(copied: Copied) -> None:
    folder = copied("pylate")
    (folder / "2_Dense" / "model.safetensors").unlink()
    with pytest.raises(EncoderError, match="cannot be loaded"):
        Encoder.load(folder)

"""How many tokens a text may have."""

from __future__ import annotations

import pytest

from colindex.encoder import Encoder
from colindex.errors import ParameterError
from tests import checkpoints
from tests.encoder.oracle import Copied, Encoders, Folders


def test_each_format_s_own(encoders: Encoders) -> None:
    lengths = {kind: encoder.max_document_tokens for kind, encoder in encoders.items()}
    assert lengths == {
        **{"transformers": 64, "plain": 24, "stanford": 20, "pylate": 20},
        **{"native": 18, "pooling": 18, "lengths": 18},
    }


def test_absent_metadata_takes_the_formats_defaults(copied: Copied) -> None:
    folder = copied("stanford")
    (folder / "artifact.metadata").unlink()
    encoder = Encoder.load(folder)
    assert encoder.max_document_tokens == checkpoints.POSITIONS  # 220, cut to what this model can take
    assert len(encoder.encode_query("cat")) == 32
    folder = copied("pylate")
    settings = {"document_length": None, "query_length": None, "do_query_expansion": False}
    checkpoints.edit_json(folder / "config_sentence_transformers.json", **settings)
    assert Encoder.load(folder).max_document_tokens == checkpoints.POSITIONS  # 180, cut
    assert len(Encoder.load(folder).encode_query("cat " * 99)) == 32


def test_shorter_on_request(folders: Folders) -> None:
    encoder = Encoder.load(folders["stanford"], max_tokens=8)
    assert encoder.max_document_tokens == len(encoder.encode_documents(["cat " * 50]).vectors) == 8
    assert len(encoder.encode_query("cat")) == 12


@pytest.mark.parametrize("tokens", [3, 65, -1])
def test_out_of_range(tokens: int, folders: Folders) -> None:
    with pytest.raises(ParameterError, match="from 4 to 64"):
        Encoder.load(folders["plain"], max_tokens=tokens)


def test_batches_of_nothing_are_refused(folders: Folders) -> None:
    with pytest.raises(ParameterError, match="batch_size"):
        Encoder.load(folders["plain"], batch_size=0)

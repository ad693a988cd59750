"""Plain encoders: the vectors of the text's own tokens, normalised."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from colindex import Document, Index
from colindex.encoder import Encoder
from colindex.errors import EncoderError
from colindex.params import SearchParams
from tests import checkpoints
from tests.encoder.oracle import HALF, SINGLE, TEXT, Copied, Encoders, Folders, Oracle, check

UNKNOWN = checkpoints.VOCABULARY.index("[UNK]")


@pytest.mark.parametrize("kind", ["transformers", "plain"])
def test_a_text_s_own_tokens_in_the_company_of_special_ones(kind: str, encoders: Encoders, folders: Folders) -> None:
    oracle = Oracle(folders[kind])
    prompt = "passage: " if kind == "plain" else ""
    ids = oracle.ids(prompt + TEXT, 24)
    check(encoders[kind].encode_documents([TEXT]), ids[1:-1], oracle.vectors(ids)[1:-1], HALF)
    query = oracle.ids(prompt.replace("passage", "query") + "who?", 24)
    assert encoders[kind].encode_query("who?") == pytest.approx(oracle.vectors(query)[1:-1], abs=SINGLE)
    assert encoders[kind].dim == checkpoints.HIDDEN


def test_its_own_projection_moves_to_the_tokens(tmp_path: Path) -> None:
    folder = checkpoints.plain(tmp_path / "projecting", projection=16)
    oracle = Oracle(folder, projections=[folder / "2_Dense"], activation="tanh")
    encoder = Encoder.load(folder)
    ids = oracle.ids(TEXT, 24)
    check(encoder.encode_documents([TEXT]), ids[1:-1], oracle.vectors(ids)[1:-1], HALF)
    assert encoder.dim == 16


@pytest.mark.parametrize("text", ["", " \n", "\u200b", "[CLS]", "[SEP] [CLS]"])
def test_a_text_of_special_tokens_alone_has_no_tokens(text: str, encoders: Encoders) -> None:
    for batch in (
        encoders["transformers"].encode_documents([text, "cat"]),
        encoders["transformers"].encode_queries([text]),
    ):
        assert batch.offsets[1] == 0
        assert batch.token_ids is not None
        assert batch.spans is not None
        assert len(batch.vectors) == len(batch.token_ids) == len(batch.spans) == batch.offsets[-1] == len(batch) - 1


def test_unknown_words_are_words(encoders: Encoders) -> None:
    for batch in (
        encoders["transformers"].encode_documents(["☃ cat"]),
        encoders["transformers"].encode_queries(["☃ cat"]),
    ):
        assert batch.token_ids is not None
        assert batch.token_ids.tolist() == [UNKNOWN, checkpoints.VOCABULARY.index("cat")]


@pytest.mark.parametrize("exact", [True, False])
def test_texts_without_tokens_in_an_index(exact: bool, encoders: Encoders, tmp_path: Path) -> None:
    texts = {"empty": "", "a": "the cat", "b": "hello world", "c": "dune"}
    encoder, params = encoders["transformers"], SearchParams(exact=exact)
    Index.build(tmp_path / "index", [Document(id_, text) for id_, text in texts.items()], encoder)
    with Index.open(tmp_path / "index", encoder=encoder) as index:
        hits = index.search("hello world", k=4, params=params)
        assert (hits[0].id, hits[-1].id) == ("b", "empty")
        nothing = index.search("", k=3, params=params)
        assert [(hit.id, hit.score) for hit in nothing] == [("a", 0.0), ("b", 0.0), ("c", 0.0)]


def test_a_tokenizer_that_adds_nothing(folders: Folders, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(folders["transformers"], tmp_path / "bare"))
    checkpoints.edit_json(folder / "tokenizer.json", post_processor=None)
    tokenizer_config = json.loads((folder / "tokenizer_config.json").read_text())
    checkpoints.edit_json(
        folder / "tokenizer_config.json", **{**tokenizer_config, "tokenizer_class": "PreTrainedTokenizerFast"}
    )
    batch = Encoder.load(folder).encode_documents(["", "cat", " "])
    assert batch.offsets.tolist() == [0, 0, 1, 1]
    assert Encoder.load(folder).encode_query("").shape == (0, 32)
    assert Encoder.load(folder).encode_query("[SEP]").shape == (1, 32)  # nobody put it there but the text


def test_modules_that_work_on_sentences(copied: Copied) -> None:
    folder = copied("plain")
    modules = json.loads((folder / "modules.json").read_text())
    modules[2]["type"] = "sentence_transformers.models.LayerNorm"
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "2_Normalize" / "config.json").write_text(json.dumps({"dimension": checkpoints.HIDDEN}))
    _save_layer_norm(folder / "2_Normalize" / "model.safetensors")
    with pytest.raises(EncoderError, match="LayerNorm works on whole sentences"):
        Encoder.load(folder)


def _save_layer_norm(path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    save_file({"norm.weight": torch.ones(checkpoints.HIDDEN), "norm.bias": torch.zeros(checkpoints.HIDDEN)}, path)

"""Fingerprints: equal where vectors are equal; a difference says what differs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from colindex.encoder import Encoder, fingerprint_difference
from tests import checkpoints
from tests.encoder.oracle import TEXT, Copied, Encoders


def test_it_is_json(encoders: Encoders) -> None:
    for kind, encoder in encoders.items():
        assert json.loads(json.dumps(encoder.fingerprint)) == encoder.fingerprint
        assert encoder.fingerprint["dim"] == encoder.dim, kind


def test_a_copy_is_the_same_encoder(encoders: Encoders, copied: Copied) -> None:
    for kind in ("stanford", "plain", "native", "pooling"):  # Stanford's file lacks the pooler's weights
        again = Encoder.load(copied(kind), batch_size=5)
        again.encode_documents([TEXT])  # leaves its padding in the tokenizer
        assert again.fingerprint == encoders[kind].fingerprint
        assert fingerprint_difference(encoders[kind].fingerprint, again.fingerprint) == ""


def test_kinds_are_told_apart(encoders: Encoders) -> None:
    kinds = {kind: encoder.fingerprint["kind"] for kind, encoder in encoders.items()}
    native = dict.fromkeys(("native", "pooling", "lengths"), "native")
    assert kinds == {**native, "transformers": "plain", **{kind: kind for kind in ("plain", "stanford", "pylate")}}
    prints = [json.dumps(encoder.fingerprint) for encoder in encoders.values()]
    assert len(set(prints)) == len(prints)


@pytest.mark.parametrize(
    ("kind", "file", "change", "names"),
    [
        ("pylate", "config_sentence_transformers.json", {"document_length": 19}, {"document_length"}),
        ("pylate", "config_sentence_transformers.json", {"query_length": 11}, {"query_expansion"}),
        ("pylate", "config_sentence_transformers.json", {"skiplist_words": ["."]}, {"skiplist"}),
        ("pylate", "config_sentence_transformers.json", {"attend_to_expansion_tokens": True}, {"query_expansion"}),
        (
            "plain",
            "config_sentence_transformers.json",
            {"prompts": {"query": "q: "}},
            {"query_prompt", "document_prompt"},
        ),
        ("plain", "sentence_bert_config.json", {"max_seq_length": 22}, {"query_length", "document_length"}),
        ("plain", "config.json", {"layer_norm_eps": 0.01}, {"architecture"}),
        ("stanford", "artifact.metadata", {"mask_punctuation": False}, {"skiplist"}),
        ("stanford", "artifact.metadata", {"doc_token_id": "[unused0]"}, {"document_prompt"}),
    ],
)
def test_each_setting_counts(
    kind: str,
    file: str,
    change: dict[str, Any],
    names: set[str],
    encoders: Encoders,
    copied: Copied,
) -> None:
    folder = copied(kind)
    checkpoints.edit_json(folder / file, **change)
    found = Encoder.load(folder).fingerprint
    assert {name for name in found if found[name] != encoders[kind].fingerprint[name]} - {"tokenizer"} == names
    difference = fingerprint_difference(encoders[kind].fingerprint, found)
    assert all(f"{name}: the index has" in difference for name in names)


def test_weights_count(encoders: Encoders, tmp_path: Path) -> None:
    checkpoints.bert(tmp_path, seed=1)
    found = Encoder.load(tmp_path).fingerprint
    assert {name for name in found if found[name] != encoders["transformers"].fingerprint[name]} == {"weights"}


def test_what_one_side_lacks_is_a_difference() -> None:
    assert fingerprint_difference({"dim": 1}, {"dim": 1, "new": None}) == "new: the index has none, this encoder null"


def test_no_window_is_the_document() -> None:
    plain, sentence = {"dim": 1}, {"dim": 1, "window": "sentence"}
    assert fingerprint_difference(sentence, plain) == 'window: the index has "sentence", this encoder "document"'
    assert fingerprint_difference(plain, sentence) == 'window: the index has "document", this encoder "sentence"'


def test_an_index_with_the_tokens_that_a_plain_encoder_leaves_out_is_another(encoders: Encoders) -> None:
    now = encoders["transformers"].fingerprint
    before = {**now, "skiplist": [{"keep_only_token_ids": None, "skiplist_tasks": ["document"], "skiplist_words": []}]}
    difference = fingerprint_difference(before, now)
    assert difference.startswith("skiplist: the index has")
    assert '"skiplist_words": []' in difference
    assert '"skiplist_tasks": ["query", "document"], "skiplist_words": ["[CLS]", "[SEP]"]' in difference

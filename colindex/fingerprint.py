"""The encoder's fingerprint: everything that changes its vectors, and nothing else.

An index can only be searched with vectors from the model that made it. Two encoders with equal fingerprints make equal
vectors, wherever their files lie:

1. **Weights**: xxh3_128 over the names, shapes and bytes of all tensors that take part, in the order of the names.
2. **Architecture**: the pipeline's modules, and what the model's configuration states beyond its defaults.
3. **Tokenizer**: xxh3_128 of its rules and vocabulary, without the padding state that each call changes.
4. **Text handling**: lengths, prompts, query expansion, skip list, normalisation, pooling inside the model, and the window where
   it is not the document.

Left out on purpose: the name and the folder (a copy is the same model), the device and the batch size (float noise), and which
release of sentencex cuts sentences (now and then another border; the vectors of both belong together).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TypeAlias

import numpy as np
import xxhash

from colindex.checkpoints import Checkpoint
from colindex.params import Window

__all__ = ["JSON", "fingerprint_difference", "fingerprint_of"]

JSON: TypeAlias = "bool | int | float | str | list[JSON] | dict[str, JSON] | None"

_MODEL_FACTS_WITHOUT_EFFECT = ("_name_or_path", "architectures", "dtype", "torch_dtype", "transformers_version")
_ABSENT = {"window": '"document"'}
"""What it means that a fingerprint does not name something."""
_POOLING_SETTINGS = ("pool_factor", "num_protected_tokens", "normalize_embeddings", "tasks")


def fingerprint_of(checkpoint: Checkpoint, window: Window = "document") -> Mapping[str, JSON]:
    """The fingerprint of a loaded checkpoint that sees documents through a window, a JSON object."""
    transformer = checkpoint.transformer
    named: dict[str, JSON] = {} if window == "document" else {"window": window}  # as in indexes from before windows
    return {
        "kind": checkpoint.kind,
        "dim": int(checkpoint.model.get_embedding_dimension()),
        "weights": _weights(checkpoint),
        "architecture": _architecture(checkpoint),
        "tokenizer": _tokenizer(checkpoint),
        "query_length": transformer.query_length,
        "document_length": transformer.document_length,
        "query_prompt": checkpoint.prompts["query"],
        "document_prompt": checkpoint.prompts["document"],
        "query_expansion": _plain_json(transformer.query_expansion),
        "skiplist": _skiplist(checkpoint),
        "normalized": bool(checkpoint.modules("Normalize")),
        "pooling": [
            {name: _plain_json(getattr(module, name, None)) for name in _POOLING_SETTINGS}
            for module in checkpoint.modules("BaseTokenPooling")
        ],
        **named,
    }


def fingerprint_difference(built: Mapping[str, object], opened: Mapping[str, object]) -> str:
    """What differs between the index's encoder and another, for people; empty where nothing but the name does.

    >>> fingerprint_difference({"dim": 128, "kind": "plain"}, {"dim": 96, "kind": "plain"})
    'dim: the index has 128, this encoder 96'
    """
    names = [name for name in {**built, **opened} if name != "name"]  # the same model may be loaded from elsewhere
    return "; ".join(
        f"{name}: the index has {_shown(built, name)}, this encoder {_shown(opened, name)}"
        for name in names
        if _shown(built, name) != _shown(opened, name)
    )


def _shown(fingerprint: Mapping[str, object], name: str) -> str:
    if name not in fingerprint:
        return _ABSENT.get(name, "none")
    return json.dumps(fingerprint[name], ensure_ascii=False, sort_keys=True)


def _weights(checkpoint: Checkpoint) -> str:
    digest = xxhash.xxh3_128()
    for name, tensor in sorted(checkpoint.model.state_dict().items()):
        if "pooler" in name:  # no token vector passes it, and checkpoints without one get a random one
            continue
        array = np.ascontiguousarray(tensor.detach().cpu().numpy())
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _architecture(checkpoint: Checkpoint) -> JSON:
    config = checkpoint.transformer.config.to_diff_dict()
    facts = {name: value for name, value in config.items() if name not in _MODEL_FACTS_WITHOUT_EFFECT}
    modules = [type(module).__name__ for module in checkpoint.model]
    activations = [type(module.activation_function).__name__ for module in checkpoint.modules("Dense")]
    return _hash([facts, modules, activations])


def _tokenizer(checkpoint: Checkpoint) -> JSON:
    tokenizer = checkpoint.tokenizer
    if not tokenizer.is_fast:
        return _hash([type(tokenizer).__name__, tokenizer.get_vocab(), tokenizer.special_tokens_map])
    rules = json.loads(tokenizer.backend_tokenizer.to_str())
    return _hash({name: value for name, value in rules.items() if name not in ("padding", "truncation")})


def _skiplist(checkpoint: Checkpoint) -> JSON:
    return [
        {
            name: _plain_json(getattr(module, name))
            for name in ("skiplist_words", "skiplist_tasks", "keep_only_token_ids")
        }
        for module in checkpoint.modules("MultiVectorMask")
    ]


def _hash(value: object) -> str:
    return xxhash.xxh3_128(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def _plain_json(value: object) -> JSON:
    """The value as JSON gives it back, so that a stored fingerprint equals a fresh one."""
    plain: JSON = json.loads(json.dumps(value))
    return plain

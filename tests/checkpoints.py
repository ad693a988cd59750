"""Tiny checkpoints in every format that the encoder reads, made on the spot: random weights, real file layouts.

The layouts follow what the libraries write: Stanford's `HF_ColBERT` folder with the projection beside the transformer's
weights, PyLate's `modules.json` with projections only, sentence-transformers' native and plain folders.
"""

from __future__ import annotations

import json
import string
from pathlib import Path
from typing import Any

HIDDEN, POSITIONS = 32, 64
WORDS = [
    "hello",
    "world",
    "the",
    "cat",
    "dune",
    "café",
    "cafe",
    "who",
    "wrote",
    "naive",
    "##s",
    "query",
    "passage",
    ":",
]
IDENTITY = "torch.nn.modules.linear.Identity"
VOCABULARY = [
    *("[PAD]", "[unused0]", "[unused1]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
    *("日", "本", "語", ".", ",", "!", "?", "[", "]"),  # of the other punctuation the vocabulary knows nothing
    *(word for word in WORDS),
    *(letter for letter in string.ascii_lowercase),
    *(f"##{letter}" for letter in string.ascii_lowercase if letter != "s"),
]


def bert(folder: Path, *, seed: int = 0, added: tuple[str, ...] = ()) -> tuple[Any, Any]:
    """A BERT of two layers with its tokenizer, saved in `folder`: also the plain Hugging Face checkpoint."""
    import torch
    from transformers import AddedToken, BertConfig, BertModel, BertTokenizer

    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = folder / "vocab.txt"
    vocabulary.write_text("\n".join(VOCABULARY) + "\n", encoding="utf-8")
    tokenizer = BertTokenizer(str(vocabulary), do_lower_case=True, model_max_length=POSITIONS)
    tokenizer.add_tokens([AddedToken(token, normalized=True) for token in added])
    tokenizer.save_pretrained(folder)
    torch.manual_seed(seed)
    sizes: dict[str, Any] = {
        "hidden_size": HIDDEN,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
    }
    config = BertConfig(vocab_size=len(tokenizer), max_position_embeddings=POSITIONS, initializer_range=0.5, **sizes)
    model: Any = BertModel(config)
    model.eval()
    model.save_pretrained(folder)
    return model, tokenizer


def stanford(folder: Path, *, dim: int = 16, metadata: dict[str, Any] | None = None) -> Path:
    """Stanford ColBERT: `bert.*` and `linear.weight` in one file, settings in artifact.metadata (None: no such file)."""
    import torch
    from safetensors.torch import save_file

    model, _ = bert(folder)
    weights = {f"bert.{name}": tensor for name, tensor in model.state_dict().items() if "pooler" not in name}
    weights["linear.weight"] = torch.randn(dim, HIDDEN, generator=torch.Generator().manual_seed(1))
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    edit_json(folder / "config.json", architectures=["HF_ColBERT"])
    if metadata is not None:
        _write_json(folder / "artifact.metadata", metadata)
    return folder


def pylate(folder: Path, *, dims: tuple[int, ...] = (24, 16), **settings: Any) -> Path:
    """PyLate: transformer and several projections in modules.json, prefixes that are added tokens."""
    bert(folder, added=("[Q] ", "[D] "))
    rows = [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}]
    width = HIDDEN
    for number, dim in enumerate(dims, start=1):
        rows.append(
            {"idx": number, "name": str(number), "path": f"{number}_Dense", "type": "pylate.models.Dense.Dense"}
        )
        _projection(folder / f"{number}_Dense", width, dim, seed=number)
        width = dim
    _write_json(folder / "modules.json", rows)
    _write_json(folder / "sentence_bert_config.json", {"max_seq_length": 31, "do_lower_case": False})
    defaults: dict[str, Any] = {
        "model_type": "ColBERT",
        "prompts": {},
        "default_prompt_name": None,
        "similarity_fn_name": "MaxSim",
        "query_prefix": "[Q] ",
        "document_prefix": "[D] ",
        "query_length": 12,
        "document_length": 20,
        "attend_to_expansion_tokens": False,
        "do_query_expansion": True,
        "skiplist_words": list(string.punctuation),
    }
    _write_json(folder / "config_sentence_transformers.json", {**defaults, **settings})
    return folder


def plain(
    folder: Path, *, prompts: dict[str, str] | None = None, max_tokens: int = 24, projection: int | None = None
) -> Path:
    """A sentence-transformers model that pools to one vector, as most are, and perhaps projects it."""
    bert(folder)
    library = "sentence_transformers.models"
    rows = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    if projection is not None:
        rows.insert(2, ("2_Dense", "Dense"))
        _projection(folder / "2_Dense", HIDDEN, projection, seed=5, activation="torch.nn.modules.activation.Tanh")
    _write_json(
        folder / "modules.json",
        [
            {"idx": at, "name": str(at), "path": path, "type": f"{library}.{kind}"}
            for at, (path, kind) in enumerate(rows)
        ],
    )
    _write_json(folder / "sentence_bert_config.json", {"max_seq_length": max_tokens, "do_lower_case": False})
    (folder / "1_Pooling").mkdir()
    (folder / "2_Normalize").mkdir()
    _write_json(
        folder / "1_Pooling" / "config.json", {"word_embedding_dimension": HIDDEN, "pooling_mode_mean_tokens": True}
    )
    if prompts is not None:
        _write_json(folder / "config_sentence_transformers.json", {"prompts": prompts, "default_prompt_name": None})
    return folder


def native(folder: Path, *, pool_factor: int = 1, normalize: bool = True) -> Path:
    """What sentence-transformers 6 itself saves, with a projection, a skip list and perhaps a pooling inside."""
    import torch
    from sentence_transformers import MultiVectorEncoder
    from sentence_transformers.base.modules import Dense, Normalize, Transformer
    from sentence_transformers.multi_vector_encoder.modules import HierarchicalTokenPooling, MultiVectorMask

    from colindex.checkpoints import _listening

    bert(folder / "bert")
    torch.manual_seed(3)
    with _listening():
        transformer = Transformer(str(folder / "bert"), query_length=10, document_length=18)
        names: dict[str, Any] = {"module_input_name": "token_embeddings"}
        modules: list[Any] = [transformer, Dense(HIDDEN, 16, bias=False, activation_function=None, **names)]
        modules += [MultiVectorMask(skiplist_words=[".", "§"]), *([Normalize(**names)] if normalize else [])]
        modules += [HierarchicalTokenPooling(pool_factor)] if pool_factor > 1 else []
        prompts = {"query": "query: ", "document": "passage: "}
        model = MultiVectorEncoder(modules=modules, device="cpu", prompts=prompts)
        model.save(str(folder / "saved"), create_model_card=False)
    return folder / "saved"


def edit_json(path: Path, **changes: Any) -> None:
    """Change some entries of a JSON object on disk; None removes one."""
    entries = {**json.loads(path.read_text(encoding="utf-8")), **changes}
    _write_json(path, {name: value for name, value in entries.items() if value is not None})


def drop_weights(path: Path, ending: str) -> None:
    """Save a file of weights again without the one whose name ends so."""
    from safetensors.torch import load_file, save_file

    weights = load_file(path)
    kept = {name: tensor for name, tensor in weights.items() if not name.endswith(ending)}
    assert len(kept) == len(weights) - 1
    save_file(kept, path, metadata={"format": "pt"})


def _projection(folder: Path, width: int, dim: int, seed: int, activation: str = IDENTITY) -> None:
    import torch
    from safetensors.torch import save_file

    folder.mkdir()
    _write_json(
        folder / "config.json",
        {"in_features": width, "out_features": dim, "bias": False, "activation_function": activation},
    )
    weight = torch.randn(dim, width, generator=torch.Generator().manual_seed(seed))
    save_file({"linear.weight": weight}, folder / "model.safetensors", metadata={"format": "pt"})


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")

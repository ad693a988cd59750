"""The formats' own rules (marker ids, expansion, projections, skip lists), with transformers alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from colindex.encoder import Encoder
from colindex.types import TokenBatch

TEXT = "Hello, wörld! The cat wrote DUNE."
HALF, SINGLE = 6e-4, 2e-5  # float16 of values up to 1; float32 sums in another order

Folders = dict[str, Path]
Encoders = dict[str, Encoder]
Copied = Callable[[str], Path]


class Oracle:
    """One checkpoint."""

    def __init__(
        self, folder: Path, *, projections: Sequence[Path] = (), transformer: str = "", activation: str = ""
    ) -> None:
        from safetensors.torch import load_file
        from transformers import AutoTokenizer, BertConfig, BertModel

        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        config = BertConfig.from_pretrained(folder)
        weights = load_file(folder / "model.safetensors")
        model: Any = BertModel(config, add_pooling_layer=False)
        self.model = model.eval()
        self.activation = activation
        names = [name for name in weights if name.startswith(transformer)]
        state = {name.removeprefix(transformer): weights[name] for name in names if "pooler" not in name}
        state.pop("linear.weight", None)
        self.model.load_state_dict(state)
        self.projections = [load_file(path / "model.safetensors")["linear.weight"] for path in projections]
        if transformer:
            self.projections = [weights["linear.weight"]]

    def ids(self, text: str, length: int, marker: str | None = None) -> list[int]:
        """[CLS] marker text [SEP], cut to the length."""
        inserted: list[int] = [] if marker is None else [int(self.tokenizer.convert_tokens_to_ids(marker))]
        found: list[int] = self.tokenizer(text, truncation=True, max_length=length - len(inserted))["input_ids"]
        return [found[0], *inserted, *found[1:]]

    def vectors(self, ids: Sequence[int], attended: int | None = None) -> NDArray[np.float32]:
        """Hidden states of the ids, projected and normalised; only the first `attended` are attended to."""
        import torch

        mask = torch.tensor([[1] * (attended or len(ids)) + [0] * (len(ids) - (attended or len(ids)))])
        with torch.inference_mode():
            hidden = self.model(input_ids=torch.tensor([list(ids)]), attention_mask=mask).last_hidden_state[0]
            for weight in self.projections:
                hidden = getattr(torch, self.activation or "clone")(hidden @ weight.T)
            found: NDArray[np.float32] = torch.nn.functional.normalize(hidden, dim=-1).numpy()
        return found

    def without(self, ids: Sequence[int], characters: str) -> NDArray[np.bool_]:
        """Which ids are no punctuation that the vocabulary knows."""
        vocabulary = self.tokenizer.get_vocab()
        return ~np.isin(ids, [vocabulary[character] for character in characters if character in vocabulary])


def expanded(oracle: Oracle, text: str, length: int, marker: str) -> tuple[list[int], int]:
    ids = oracle.ids(text, length, marker)
    return ids + [int(oracle.tokenizer.mask_token_id)] * (length - len(ids)), len(ids)


def check(batch: TokenBatch, ids: Any, vectors: NDArray[np.float32], tolerance: float) -> None:
    assert batch.token_ids is not None
    assert batch.token_ids.tolist() == list(ids)
    assert batch.vectors.astype(np.float32) == pytest.approx(vectors, abs=tolerance)

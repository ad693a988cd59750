"""The encoder: text in, token vectors out, each with its vocabulary id and its place in the text.

1. **Load** a checkpoint (`colindex.checkpoints`) and know it by its fingerprint (`colindex.fingerprint`). Documents are **cut**
   into the windows that the model sees alone (`colindex.windows`), each a text from here on.
2. **Sort** the texts of a call by length, so that a batch pads little. The same call gives the same vectors; the mates
   of a batch change them by float noise only.
3. **Run** each batch. Prompts, markers, query expansion, masks and skip lists are sentence-transformers' work; a token
   that a skip list drops is absent from vectors, ids and spans alike.
4. **Trace** each token to the characters it covers: the tokenizer's offsets, less the prompt before the text, plus the
   accents that follow its last letter as characters of their own (tokenizers drop them without a trace).
5. **Return** the texts in the order they came, the windows of a document joined.
"""

from __future__ import annotations

import re
import threading
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from colindex.checkpoints import Checkpoint, load_checkpoint
from colindex.errors import ParameterError
from colindex.fingerprint import JSON, fingerprint_difference, fingerprint_of
from colindex.params import Window, one_of
from colindex.types import Document, TokenBatch
from colindex.windows import cut, moved

__all__ = ["Encoder", "fingerprint_difference"]


@dataclass(frozen=True, slots=True)
class _Tokens:
    """One text after the model."""

    vectors: NDArray[Any]
    """float16 or float32 [tokens, dim]."""
    ids: NDArray[np.int32]
    """int32 [tokens]."""
    spans: NDArray[np.int32]
    """int32 [tokens, 2]."""


class Encoder:
    """A model that turns documents and queries into token vectors. Made by `Encoder.load`.

    Threads may share it; their batches take turns.
    """

    def __init__(self, name: str, checkpoint: Checkpoint, batch_size: int, window: Window = "document") -> None:
        self.name = name
        """What it was loaded by."""
        self.window = window
        """What of a document it sees at once."""
        self._checkpoint = checkpoint
        self._batch_size = batch_size
        self._one_at_a_time = threading.Lock()  # tokenizers fail when two threads set their padding at once

    @classmethod
    def load(
        cls,
        name: str | Path,
        *,
        device: str | None = None,
        batch_size: int = 32,
        max_tokens: int | None = None,
        window: Window = "document",
    ) -> Encoder:
        """Load a model.

        Args:
            name: `minilm`, a folder (Stanford ColBERT, PyLate, MultiVectorEncoder, or any plain encoder), or a name on
                the Hugging Face hub. Plain encoders give the vectors of a text's own tokens, normalised: not those of
                [CLS], [SEP] and their like.
            device: `cpu`, `cuda`, `cuda:1`, ...; None takes a GPU where there is one.
            batch_size: texts that go through the model together.
            max_tokens: longer windows are cut to this; None keeps the checkpoint's own length.
            window: `document` encodes each document as a whole, `sentence` its title and each of its sentences alone: then
                sentences are ranked better, and only sentences are cut (`colindex.windows`).

        Raises:
            MissingDependencyError: an optional package is not installed; the message names it.
            EncoderNotFoundError: nothing has this name, or the hub cannot be reached.
            EncoderError: the checkpoint cannot give trained token vectors, or the device is not there.
            ParameterError: `batch_size` < 1, or `max_tokens` is not within what the model takes, or `window` is none.
        """
        if batch_size < 1:
            raise ParameterError(f"batch_size: expected 1 or more, got {batch_size}.")
        window = one_of("window", window, get_args(Window))
        checkpoint = load_checkpoint(str(name), device)
        if max_tokens is not None:
            _set_document_length(str(name), checkpoint, max_tokens)
        return cls(str(name), checkpoint, batch_size, window)

    @property
    def dim(self) -> int:
        """Values in each vector."""
        return int(self._checkpoint.model.get_embedding_dimension())

    @property
    def device(self) -> str:
        """Where the model runs."""
        return str(self._checkpoint.model.device)

    @property
    def max_document_tokens(self) -> int:
        """Longer windows are cut to this, prompt, markers and special tokens included."""
        return int(self._checkpoint.transformer.document_length)

    @property
    def pools_tokens(self) -> bool:
        """Whether the model merges document tokens by itself; they then have no ids or spans."""
        return self._pools("document")

    @cached_property
    def fingerprint(self) -> Mapping[str, JSON]:
        """Everything that changes the vectors, as a JSON object: equal fingerprints, equal vectors."""
        return fingerprint_of(self._checkpoint, self.window)

    def encode_documents(
        self, documents: Sequence[Document | str], *, progress: Callable[[int], None] | None = None
    ) -> TokenBatch:
        """Encode documents.

        Args:
            documents: bare texts get their position as id.
            progress: called after each batch with the number of documents encoded so far.

        Returns:
            Vectors [tokens, dim], float16 where the model normalises (its unit vectors lose about 0.0002 of their
            length in it), else float32; token ids, and spans in characters of `Document.content`. Markers, prompts and
            special tokens have the span (0, 0). A document without any text has no tokens, unless its model was
            trained to match markers or special tokens.
        """
        named = [Document(str(at), item) if isinstance(item, str) else item for at, item in enumerate(documents)]
        windows = cut(named, self.window)

        def told(encoded: int) -> None:
            # windows are sorted by length, so that those of a document are done at different times
            if progress is not None:
                progress(len(named) * encoded // len(windows.texts))

        parts = self._encode(windows.texts, "document", told)
        placed = [
            replace(part, spans=moved(part.spans, start)) for part, start in zip(parts, windows.starts, strict=True)
        ]
        joined = [_joined(of_one) for of_one in windows.by_document(placed)]
        return self._batch([document.id for document in named], joined, "document")

    def encode_queries(self, texts: Sequence[str]) -> TokenBatch:
        """Encode queries: float32 vectors [tokens, dim], ids `"0"`, `"1"`, ... in the order of the texts.

        As of documents, a text that says nothing may have no tokens; every document matches it equally, with 0.
        """
        ids = [str(position) for position in range(len(texts))]
        return self._batch(ids, self._encode(texts, "query", None), "query")

    def encode_query(self, text: str) -> NDArray[np.float32]:
        """Encode one query: float32 [tokens, dim]."""
        vectors: NDArray[np.float32] = self.encode_queries([text]).vectors
        return vectors

    def vocabulary(self, token_ids: NDArray[np.int32]) -> tuple[str, ...]:
        """What the tokenizer calls some vocabulary ids, int32 [n]: `[MASK]`, `dune`, `##s`."""
        return tuple(map(str, self._checkpoint.tokenizer.convert_ids_to_tokens(token_ids.tolist())))

    def _pools(self, task: str) -> bool:
        return any(module.applies_to(task) for module in self._checkpoint.modules("BaseTokenPooling"))

    def _encode(self, texts: Sequence[str], task: str, progress: Callable[[int], None] | None) -> list[_Tokens]:
        """Steps 2 to 4: one entry for each text, in the order of the texts."""
        cleaned = [_LONE_SURROGATE.sub("\ufffd", text) for text in texts]
        order = sorted(range(len(cleaned)), key=lambda at: -len(cleaned[at]))
        found: dict[int, _Tokens] = {}
        for start in range(0, len(order), self._batch_size):
            positions = order[start : start + self._batch_size]
            with self._one_at_a_time:
                found.update(zip(positions, self._run([cleaned[at] for at in positions], task), strict=True))
            if progress is not None:
                progress(len(found))
        return [found[at] for at in range(len(texts))]

    def _run(self, texts: list[str], task: str) -> Iterator[_Tokens]:
        """Step 3: one batch through the model."""
        checkpoint = self._checkpoint
        filled = [text if self._has_tokens(text, task) else None for text in texts]
        encode = checkpoint.model.encode_query if task == "query" else checkpoint.model.encode_document
        traced = {"text": {"return_offsets_mapping": True}} if checkpoint.tokenizer.is_fast else {}
        outputs = iter(
            encode(
                [text for text in filled if text is not None],
                prompt=checkpoint.prompts[task],
                batch_size=self._batch_size,
                show_progress_bar=False,
                output_value=None,  # all that the modules know of each token, ids and masks included
                processing_kwargs=traced,
            )
        )
        for text in filled:
            yield self._nothing(task) if text is None else self._tokens(next(outputs), text, task)

    def _has_tokens(self, text: str, task: str) -> bool:
        """Tokenizers without special tokens make nothing of some texts, and models cannot take nothing."""
        tokenizer = self._checkpoint.tokenizer
        if tokenizer.num_special_tokens_to_add() or self._checkpoint.prompts[task]:
            return True
        return bool(tokenizer(text, truncation=True, max_length=8)["input_ids"])

    def _dtype(self, task: str) -> type[np.floating[Any]]:
        """Half precision for what is many and of unit length."""
        return np.float16 if task == "document" and self._checkpoint.modules("Normalize") else np.float32

    def _nothing(self, task: str) -> _Tokens:
        return _Tokens(np.empty((0, self.dim), self._dtype(task)), np.empty(0, np.int32), np.empty((0, 2), np.int32))

    def _tokens(self, output: Mapping[str, Any], text: str, task: str) -> _Tokens:
        """The scored tokens of one text, from the model's padded output."""
        mask = output["attention_mask"].bool()
        vectors = output["token_embeddings"][mask].float().cpu().numpy().astype(self._dtype(task))
        if self._pools(task):  # the mask is over merged vectors now: no token stands behind them
            return _Tokens(vectors, np.zeros(len(vectors), np.int32), np.zeros((len(vectors), 2), np.int32))
        kept = mask.cpu().numpy()
        ids = output["input_ids"].cpu().numpy()[kept].astype(np.int32)
        spans = np.zeros((len(kept), 2), dtype=np.int32)
        if "offset_mapping" in output:
            offsets = output["offset_mapping"].cpu().numpy()  # query expansion may have widened the text since
            spans[: len(offsets)] = _spans(offsets, text, len(self._checkpoint.prompts[task]))
        return _Tokens(vectors, ids, spans[kept])

    def _batch(self, ids: Sequence[str], texts: Sequence[_Tokens], task: str) -> TokenBatch:
        """Step 5."""
        parts, pooled = [self._nothing(task), *texts], self._pools(task)
        return TokenBatch(
            ids=tuple(ids),
            vectors=np.concatenate([part.vectors for part in parts]),
            offsets=np.cumsum([len(part.vectors) for part in parts]).astype(np.int64),
            token_ids=None if pooled else np.concatenate([part.ids for part in parts]),
            spans=None if pooled else np.concatenate([part.spans for part in parts]),
        )


_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
"""Half of a UTF-16 pair, as broken JSON leaves it: no tokenizer takes it. Its replacement is one character as well."""


def _joined(windows: Sequence[_Tokens]) -> _Tokens:
    """Step 5: one document's tokens."""
    if len(windows) == 1:
        return windows[0]
    return _Tokens(
        vectors=np.concatenate([window.vectors for window in windows]),
        ids=np.concatenate([window.ids for window in windows]),
        spans=np.concatenate([window.spans for window in windows]),
    )


def _set_document_length(name: str, checkpoint: Checkpoint, max_tokens: int) -> None:
    if not 4 <= max_tokens <= checkpoint.positions:
        raise ParameterError(f"max_tokens: {name} takes from 4 to {checkpoint.positions} tokens, got {max_tokens}.")
    checkpoint.transformer.document_length = max_tokens


def _spans(offsets: NDArray[np.int64], text: str, prompt_length: int) -> NDArray[np.int64]:
    """Step 4: offsets [tokens, 2] in prompt and text -> spans [tokens, 2] in the text, (0, 0) for what it does not hold."""
    spans: NDArray[np.int64] = np.maximum(offsets - prompt_length, 0)
    spans[spans[:, 1] <= spans[:, 0]] = 0
    if text.isascii():
        return spans
    starts = set(spans[:, 0].tolist())
    for token, stop in enumerate(spans[:, 1].tolist()):
        while 0 < stop < len(text) and stop not in starts and unicodedata.category(text[stop])[0] == "M":
            stop += 1
        spans[token, 1] = stop
    return spans

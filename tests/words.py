"""An encoder for tests: each word is a unit vector of its own, so that what should match is known."""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from colindex import Document, TokenBatch

WORDS = (
    "amber basin cedar delta ember flint grove harbor island jasper kelp lagoon meadow nectar onyx prairie quartz river "
    "summit tundra umber valley willow xenon yarrow zephyr anchor beacon copper dune elm fjord"
).split()


class WordEncoder:
    """Every word, lower-cased, becomes the vector that its checksum seeds; empty text has no tokens."""

    name = "words"
    pools_tokens = False

    def __init__(self, dim: int = 16, salt: int = 0) -> None:
        self.dim = dim
        self.salt = salt
        self.max_document_tokens = 64
        self.calls = 0

    @property
    def fingerprint(self) -> Mapping[str, Any]:
        return {"kind": "words", "dim": self.dim, "salt": self.salt}

    def encode_documents(self, documents: Sequence[Document]) -> TokenBatch:
        self.calls += 1
        return self._encode([document.id for document in documents], [document.content for document in documents])

    def encode_queries(self, texts: Sequence[str]) -> TokenBatch:
        return self._encode([str(position) for position in range(len(texts))], texts)

    def encode_query(self, text: str) -> NDArray[np.float32]:
        return self.encode_queries([text]).vectors.astype(np.float32)

    def _encode(self, ids: Sequence[str], texts: Sequence[str]) -> TokenBatch:
        found = [list(re.finditer(r"\w+", text))[: self.max_document_tokens] for text in texts]
        words = [match for matches in found for match in matches]
        token_ids = [zlib.crc32(match[0].lower().encode()) % 30_000 for match in words]
        vectors = np.zeros((len(words), self.dim), np.float16)
        for row, token_id in enumerate(token_ids):
            vectors[row] = _vector(self.dim, self.salt, token_id)
        return TokenBatch(
            ids=tuple(ids),
            vectors=vectors,
            offsets=np.cumsum([0, *(len(matches) for matches in found)]),
            token_ids=np.array(token_ids, np.int32),
            spans=np.array([match.span() for match in words], np.int32).reshape(-1, 2),
        )


@cache
def _vector(dim: int, salt: int, token_id: int) -> NDArray[np.float64]:
    vector = np.random.default_rng([salt, token_id]).standard_normal(dim)
    return vector / np.linalg.norm(vector)


def documents(count: int, seed: int = 0, words: int = 12) -> list[Document]:
    """Random documents over a small vocabulary, each with a rare word of its own."""
    rng = np.random.default_rng(seed)
    return [
        Document(
            id=f"doc-{number}",
            text=" ".join([*rng.choice(WORDS, rng.integers(1, words)).tolist(), f"rare{number}"]),
            title=f"title{number % 7}",
            metadata={"number": number},
        )
        for number in range(count)
    ]


def batches(count: int, dim: int = 16, seed: int = 0, size: int = 100, tokens: int = 10) -> list[TokenBatch]:
    """Random unit vectors in batches of `size` documents, without token ids."""
    rng = np.random.default_rng(seed)
    result = []
    for start in range(0, count, size):
        ids = [f"v{number}" for number in range(start, min(start + size, count))]
        arrays = [rng.standard_normal((rng.integers(0, tokens), dim)).astype(np.float32) for _ in ids]
        result.append(
            TokenBatch.from_arrays(ids, [array / np.linalg.norm(array, axis=1, keepdims=True) for array in arrays])
        )
    return result

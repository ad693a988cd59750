"""One generation of an index, open: what a search, a lookup of an id, and a hit's document are answered from.

Opening
1. reads the catalog and takes its newest manifest;
2. pins the folders that it names, so that no writer removes them; if one is gone already, begins again with a newer manifest;
3. loads what stays resident: codebook, postings, offsets, checksums, tombstones. Parts that an earlier generation has open are
   taken over: files never change;
4. gives the rest of the memory budget to the block cache, or refuses a budget that is too small.

A generation is closed when nobody holds it any more, so that a search that began in it ends in it. Hits hold its pins alone.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import accumulate
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from colindex.budget import divide_budget
from colindex.codebook import SearchCodebook
from colindex.errors import EncoderMismatchError, IndexNotFoundError, QueryError
from colindex.fingerprint import fingerprint_difference
from colindex.params import SearchParams
from colindex.ranked import Ranked
from colindex.search import Snapshot
from colindex.selection import Selection
from colindex.spool import decode_document
from colindex.storage.blocks import BlockStore, SegmentBlocks, ShardBlocks
from colindex.storage.catalog import Catalog
from colindex.storage.layout import codebook_path
from colindex.storage.manifest import Manifest
from colindex.storage.pins import GenerationGoneError, Pins, folders_of
from colindex.storage.places import find_records
from colindex.storage.plain import read_arrays
from colindex.storage.reads import BLOCK_BYTES
from colindex.storage.segments import SegmentReader
from colindex.storage.tombstones import live_bits, read_tombstones
from colindex.types import Document, Hit, TextEncoder

__all__ = ["Generation", "check_encoder"]

EXACT_TOKENS = 16_384
"""Below this many stored vectors scoring everything takes less time than probing and gathering would save."""
_ATTEMPTS = 100


class Generation:
    """An open generation; make one with `Generation.open`."""

    def __init__(self, path: Path, catalog: Catalog, pins: Pins, snapshot: Snapshot) -> None:
        self.path, self.catalog, self.pins, self.snapshot = path, catalog, pins, snapshot
        self._positions = {int(segment.info.name): place for place, segment in enumerate(snapshot.segments)}
        self._release = weakref.finalize(self, _close, catalog, snapshot.store)

    @classmethod
    def open(
        cls, path: Path, encoder: TextEncoder | None, budget: int, previous: Generation | None = None
    ) -> Generation:
        """Open the newest generation of an index.

        Raises:
            As `Index.open`.
        """
        for _ in range(_ATTEMPTS):
            catalog = Catalog.open_reader(path)
            try:
                manifest = catalog.manifest()
                if encoder is not None:
                    check_encoder(path, manifest, encoder)
                pins = Pins(folders_of(path, manifest))
                return cls(path, catalog, pins, _load(path, manifest, budget, previous))
            except GenerationGoneError:
                newest = catalog.is_latest()
                catalog.close()
                if newest:  # nobody has removed it for a newer one: it is damaged, and reading it says where
                    return cls._damaged(path, manifest, budget)
            except BaseException:
                catalog.close()
                raise
        raise IndexNotFoundError(f"{path}: generations were replaced faster than they could be opened; try again.")

    @classmethod
    def _damaged(cls, path: Path, manifest: Manifest, budget: int) -> Generation:
        """Find the file that is missing: raises CorruptIndexError, unless it has come back."""
        snapshot = _load(path, manifest, budget, None)
        return cls(path, Catalog.open_reader(path), Pins(folders_of(path, manifest)), snapshot)

    @property
    def manifest(self) -> Manifest:
        """What it is made of."""
        return self.catalog.manifest()

    def close(self) -> None:
        """Close the files, give the memory back, and let go of the folders but for hits that are held; closing twice is fine."""
        self._release()
        self.pins = Pins(())

    def locate(self, id_: str) -> tuple[int, int] | None:
        """Position of the segment and number within it of a document; None where the generation does not hold it."""
        found = self.catalog.locate(id_)
        if self.catalog.is_latest():
            return None if found is None else (self._positions[found[0]], found[1])
        places = ((at, number) for at, segment in enumerate(self.snapshot.segments) for number in segment.find(id_))
        return next((place for place in places if place in self.snapshot.live), None)  # ids lead into a newer one

    def locate_each(self, ids: Iterable[str]) -> list[tuple[int, int]]:
        """`locate` for many ids; those that the generation does not hold are left out."""
        ids = list(ids)
        found = self.catalog.locate_each(ids)
        if self.catalog.is_latest():
            return [(self._positions[place[0]], place[1]) for place in found if place is not None]
        walked = (segment.find_each(ids).values() for segment in self.snapshot.segments)
        places = ((at, number) for at, each in enumerate(walked) for numbers in each for number in numbers)
        return [place for place in places if place in self.snapshot.live]

    def number_of(self, id_: str) -> int | None:
        """The number of a document through all segments; None where the generation does not hold it."""
        place = self.locate(id_)
        return None if place is None else self.snapshot.firsts[place[0]] + place[1]

    def is_exact(self, params: SearchParams) -> bool:
        """Whether a search with these settings scores every document."""
        return self.snapshot.tokens <= EXACT_TOKENS if params.exact is None else params.exact

    def project(self, query: NDArray[np.floating]) -> NDArray[np.float32]:
        """Bring query vectors, float [query tokens, input_dim], into the stored space.

        Raises:
            QueryError: they are not finite.
            VectorError: they have another dim than the index.
        """
        vectors = np.asarray(query)
        if not np.isfinite(vectors).all():
            raise QueryError("query vectors: expected finite values, got a NaN or an infinite one.")
        return self.snapshot.codebook.project(vectors, where="query vectors")

    def selection(self, where: str | None, ids: Iterable[str] | None) -> Selection:
        """The documents that may be returned: all that are not deleted, or those of them that pass a filter.

        Raises:
            FilterError: `where` is no condition on the metadata of this index.
        """
        selection = self.snapshot.live
        if ids is not None:
            selection = selection.also(self._bits(ids))
        if where is not None:
            from colindex.filters import evaluate

            selection = selection.also(evaluate(self.snapshot.segments, where))
        return selection

    def _bits(self, ids: Iterable[str]) -> list[NDArray[np.uint8]]:
        marks = [np.zeros(size, np.bool_) for size in self.snapshot.live.sizes]
        for segment, document in self.locate_each(ids):
            marks[segment][document] = True
        return [np.packbits(each, bitorder="little") for each in marks]

    def hits(self, ranked: Ranked, spans: Sequence[tuple[int, int] | None] | None = None) -> list[Hit]:
        """Look up the external ids; texts stay on disk until they are asked for. `spans` are the hits', where they have one."""
        places = [self.snapshot.locate(document) for document in ranked.documents.tolist()]
        return [
            Hit(id_, score, partial(_read_document, self.pins, self.snapshot.segments[segment], document), span)
            for (segment, document), id_, score, span in zip(
                places, self._external_ids(places), ranked.scores.tolist(), spans or [None] * len(places), strict=True
            )
        ]

    def _external_ids(self, places: Sequence[tuple[int, int]]) -> list[str]:
        """Of the documents at (position of the segment, number within it); each segment is asked once."""
        wanted: dict[int, list[int]] = {}
        for segment, document in places:
            wanted.setdefault(segment, []).append(document)
        found = {
            segment: iter(self.snapshot.segments[segment].external_ids(documents))
            for segment, documents in wanted.items()
        }
        return [next(found[segment]) for segment, _ in places]


def check_encoder(path: Path, manifest: Manifest, encoder: TextEncoder) -> None:
    """Raise EncoderMismatchError unless the index was built with this encoder."""
    if manifest.encoder is None:
        if encoder.dim != manifest.input_dim:
            raise EncoderMismatchError(
                f"{path}: built from vectors of dim {manifest.input_dim}, but the encoder gives {encoder.dim}."
            )
        return
    difference = fingerprint_difference(manifest.encoder, encoder.fingerprint)
    if difference:
        raise EncoderMismatchError(
            f"{path}: the encoder is not the one that the index was built with: {difference}. "
            "Load the encoder of the index, or build a new index with this one."
        )


def _close(catalog: Catalog, store: BlockStore) -> None:
    store.close()
    catalog.close()


def _read_document(pins: Pins, segment: SegmentReader, number: int) -> Document:
    """Read a hit's document; the pins are here so that its file is too, as long as the hit."""
    return decode_document(segment.document(number))


def _load(path: Path, manifest: Manifest, budget: int, previous: Generation | None) -> Snapshot:
    """Steps 3 and 4."""
    codebook = _codebook(path, manifest, previous)
    opened = {} if previous is None else {segment.info.name: segment for segment in previous.snapshot.segments}
    segments = tuple(opened.get(info.name) or SegmentReader(path, info) for info in manifest.segments)
    live = _live(path, manifest)
    blocks = [
        SegmentBlocks(
            tuple(ShardBlocks(shard.path, shard.blocks, shard.data_bytes) for shard in segment.shards),
            segment.block_checksums,
        )
        for segment in segments
    ]
    cache_bytes = divide_budget(path, budget, codebook, segments, blocks, live)
    firsts = tuple(accumulate((segment.info.documents for segment in segments), initial=0))
    store = BlockStore(blocks, cache_bytes)
    bases = [store.base(number) * BLOCK_BYTES for number in range(len(segments))]
    finder = find_records([segment.offsets for segment in segments], bases, codebook.layout.record_bytes)
    return Snapshot(codebook, segments, store, finder, firsts, live)


def _codebook(path: Path, manifest: Manifest, previous: Generation | None) -> SearchCodebook:
    if previous is not None and previous.manifest.codebook == manifest.codebook:
        return previous.snapshot.codebook
    return SearchCodebook.from_arrays(*read_arrays(codebook_path(path, manifest.codebook), manifest.codebook_files))


def _live(path: Path, manifest: Manifest) -> Selection:
    bits = [
        live_bits(read_tombstones(path, manifest.tombstones[info.name], info.documents), info.documents)
        if info.name in manifest.tombstones
        else None
        for info in manifest.segments
    ]
    return Selection.of([info.documents for info in manifest.segments], bits)

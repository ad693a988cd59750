"""The catalog: ids and the manifest, in LMDB; the only module that imports it.

1. `catalog.lmdb/` is an LMDB environment of two databases. `manifests`: generation, uint64 big-endian -> manifest, JSON;
   the last two are kept. `ids`: external id, UTF-8 -> segment number and document number, two uint32 little-endian.
   Every value ends with 8 bytes, the xxh3_64 of key and value, little-endian, looked at on each read.
2. A commit is one transaction: it puts the new ids and the manifest, and with it the generation is there. `commit.json`
   (`lmdb_guard.py`) is written before it, saying that it is about to be, and after it, which lets the next reader trust the file.
3. liblmdb never sees a file that the guard has not passed.
4. LMDB must not open one file twice in a process, so catalogs of one file share an environment, counted, and their
   transactions take turns. Transactions are short: no reader pins pages, and the map may grow between them.
5. A reader keeps the generation it found. Ids lead to places of the newest one, so `locate` is for a catalog that still is
   (`is_latest`); a reader of an older generation looks into its own segments instead. Where the folder cannot be written it opens
   without LMDB's reader table; such a folder must not be written through another mount meanwhile.

Texts are not in here but in their segments: the whole file is hashed at open, so it has to stay small.
"""

from __future__ import annotations

import os
import struct
import threading
import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from colindex.storage import directory
from colindex.storage.checksums import hash64
from colindex.storage.directory import corrupt, disk_full, free_bytes, fsync_folder
from colindex.storage.entries import encode_id
from colindex.storage.errors import DiskSpaceError, StorageError
from colindex.storage.layout import not_built, require_index
from colindex.storage.lmdb_guard import (
    DATA,
    RECORD,
    allocate_lock_file,
    announce_commit,
    check_catalog_file,
    read_commit_record,
    write_commit_record,
)
from colindex.storage.manifest import Manifest
from colindex.storage.manifest_copy import refresh_manifest_copy, write_manifest_copy

if TYPE_CHECKING:
    import lmdb

__all__ = ["Catalog", "catalog_path", "structural_problems"]

_IDS, _MANIFESTS = b"ids", b"manifests"
_PLACE = struct.Struct("<II")
_GENERATION = struct.Struct(">Q")
_CHECK_BYTES = 8
_FIRST_MAP, _MAP_ROUND = 16 << 20, 1 << 20
_KEPT_MANIFESTS = 2
_FULL_BYTES = 1 << 20  # LMDB takes a write that a full disk cut short for an I/O error


class Catalog:
    """An open catalog; make one with `open_reader` or `open_writer`, and close it."""

    def __init__(self, path: Path, shared: _Shared, writable: bool) -> None:
        self._path, self._shared, self._writable = path, shared, writable
        self._release = weakref.finalize(self, _let_go, shared)
        try:
            self._manifest = self._latest()
        except BaseException:
            self.close()
            raise

    @classmethod
    def open_reader(cls, index_path: Path, *, may_change: bool = True) -> Catalog:
        """Open the catalog of an index at its latest generation.

        Args:
            index_path: the folder of the index.
            may_change: somebody else may be committing; not so for the holder of the `WriterLock`.

        Raises:
            IndexNotFoundError: there is no index.
            IndexNotBuiltError: nothing was committed yet.
            CorruptIndexError: the file is damaged.
            FormatTooNewError: a newer colindex wrote it.
        """
        path = catalog_path(index_path)
        require_index(Path(index_path))
        if not (path / DATA).exists() and not (path / RECORD).exists():
            raise not_built(index_path)
        catalog = cls(path, _share(path, create=False, may_change=may_change), writable=False)
        if catalog._manifest is None:
            catalog.close()
            raise not_built(index_path)
        return catalog

    @classmethod
    def open_writer(cls, index_path: Path) -> Catalog:
        """Open the catalog for commits, and make it where there is none. The caller holds the `WriterLock`.

        Raises:
            CorruptIndexError: the file is damaged.
            FormatTooNewError: a newer colindex wrote it.
        """
        path = catalog_path(index_path)
        path.mkdir(exist_ok=True)
        fresh = not (path / RECORD).exists()
        catalog = cls(path, _share(path, create=True, may_change=False), writable=True)
        try:
            catalog._prepare(fresh)
        except BaseException:
            catalog.close()
            raise
        return catalog

    def __enter__(self) -> Catalog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file; closing twice does nothing."""
        self._release()

    @property
    def generation(self) -> int:
        """The generation that this catalog answers for; 0 before the first commit."""
        return 0 if self._manifest is None else self._manifest.generation

    @property
    def n_documents(self) -> int:
        """Documents of that generation."""
        return 0 if self._manifest is None else self._manifest.documents

    def manifest(self) -> Manifest:
        """The manifest of that generation.

        Raises:
            IndexNotBuiltError: nothing was committed yet.
        """
        if self._manifest is None:
            raise not_built(self._path.parent)
        return self._manifest

    def is_latest(self) -> bool:
        """Whether no newer generation has been committed since this catalog was opened."""
        with self._shared.reading() as transaction:
            found = self._shared.newest_manifest(transaction)
        return (0 if found is None else _GENERATION.unpack(found[0])[0]) == self.generation

    def locate(self, id: str) -> tuple[int, int] | None:
        """Segment number and document number of an external id in the newest generation; None where it is not in it.

        Raises:
            InvalidIdError: no index can hold such an id.
            CorruptIndexError: the stored value is damaged.
        """
        return self.locate_each([id])[0]

    def locate_each(self, ids: Iterable[str]) -> list[tuple[int, int] | None]:
        """`locate` for each of some ids, in one transaction; raises as it does."""
        keys = [encode_id(id) for id in ids]
        if self._manifest is None:
            return [None] * len(keys)
        with self._shared.reading() as transaction:
            database = self._shared.database(_IDS, transaction)
            values = [transaction.get(key, db=database) for key in keys]
        pairs = zip(keys, values, strict=True)
        return [None if value is None else self._place(key, value) for key, value in pairs]

    def ids(self) -> Iterator[tuple[str, int, int]]:
        """Every id of the newest generation with its segment and document, in the order of their bytes.

        Raises:
            CorruptIndexError: a stored value is damaged.
        """
        if self._manifest is None:
            return
        with self._shared.reading() as transaction:
            for key, value in transaction.cursor(db=self._shared.database(_IDS, transaction)):
                segment, document = self._place(bytes(key), bytes(value))
                yield bytes(key).decode(), segment, document

    def commit(
        self,
        manifest: Manifest,
        new_ids: Iterable[tuple[str, int, int]],
        removed_ids: Iterable[str] = (),
        *,
        first: bool = False,
    ) -> None:
        """Make a generation the latest, durably: its manifest and where its ids are, in one transaction.

        Args:
            manifest: its generation is one more than this catalog's; every file that it names is durable already.
            new_ids: external id, segment number and document number; an id that exists moves.
            removed_ids: ids that lead nowhere from now on; one that is new as well stays.
            first: of a copy: nothing was committed here before, and the generation keeps its number.

        Raises:
            StorageError: the catalog was opened for reading, or the generation is not the next one.
            InvalidIdError: an id that cannot be stored.
            OSError, DiskSpaceError: the disk; the last generation stays the latest, unless only the note of it, or the copy of
                the manifest, cannot be written.
        """
        if not self._writable:
            raise StorageError(f"{self._path}: opened for reading; open it with Catalog.open_writer to commit.")
        if manifest.generation != self.generation + 1 and not (first and self.generation == 0):
            raise StorageError(
                f"{self._path}: expected generation {self.generation + 1}, got {manifest.generation}; "
                "make the next manifest from the latest one."
            )
        if (record := read_commit_record(self._path)) is None or record.generation != self.generation:
            write_commit_record(self._path, self.generation)  # the last commit could not; the guard allows one step
        places = [encode_id(id) + _PLACE.pack(segment, document) for id, segment, document in new_ids]
        places.sort()  # keys in their order fill pages
        removed = sorted(encode_id(id) for id in removed_ids)
        announce_commit(self._path)
        self._shared.write(places, removed, manifest.generation, manifest.to_json())
        self._manifest = manifest
        with suppress(DiskSpaceError):  # the generation is there: readers look closer, the next writer makes up for it
            write_commit_record(self._path, manifest.generation)
            write_manifest_copy(self._path.parent, manifest)

    def _prepare(self, fresh: bool) -> None:
        """Make the databases of a new catalog; finish what a writer that ended after its commit left undone."""
        if fresh and self._manifest is None:
            self._shared.make_databases()
            fsync_folder(self._path.parent)
            fsync_folder(self._path.parent.parent)
        record = read_commit_record(self._path)
        if record is None or record.committing or record.generation != self.generation:
            for _ in self.ids():  # every value is looked at before the file as it is now is declared good
                pass
            write_commit_record(self._path, self.generation)
        if self._manifest is not None:
            refresh_manifest_copy(self._path.parent, self._manifest)

    def _latest(self) -> Manifest | None:
        """The manifest of the newest generation in the file."""
        record = read_commit_record(self._path)
        with self._shared.reading() as transaction:
            found = self._shared.newest_manifest(transaction)
        if found is None and (record is None or record.generation == 0):
            return None
        generation = 0 if found is None else _GENERATION.unpack(found[0])[0]
        if found is None or (record is not None and generation < record.generation):
            raise corrupt(self._path / DATA, f"generation {record.generation if record else 1}", generation)
        manifest = Manifest.from_json(self._opened(*found), self._path / DATA)
        if manifest.generation != generation:
            raise corrupt(self._path / DATA, f"the manifest of generation {generation}", manifest.generation)
        return manifest

    def _place(self, key: bytes, value: bytes) -> tuple[int, int]:
        place = self._opened(key, value)
        if len(place) != _PLACE.size:
            raise corrupt(self._path / DATA, f"{_PLACE.size} bytes for id {key!r}", len(place))
        segment, document = _PLACE.unpack(place)
        return int(segment), int(document)

    def _opened(self, key: bytes, value: bytes) -> bytes:
        """A stored value without its check."""
        content, check = value[:-_CHECK_BYTES], value[-_CHECK_BYTES:]
        if check != _check(key, content):
            raise corrupt(self._path / DATA, f"check {_check(key, content).hex()} of key {key!r}", check.hex())
        return content


@dataclass(slots=True, eq=False)
class _Shared:
    """The one environment of a file in this process, and the turn to use it."""

    path: Path
    environment: lmdb.Environment
    users: int = 1
    turn: threading.RLock = field(default_factory=threading.RLock)
    process: int = field(default_factory=os.getpid)

    @contextmanager
    def reading(self) -> Iterator[lmdb.Transaction]:
        """A read transaction; another process may have made the file outgrow our map, which is then made anew."""
        import lmdb

        with self.turn:
            self._own()
            try:
                transaction = self.environment.begin()
            except lmdb.MapResizedError:
                self.environment.set_mapsize(0)
                transaction = self.environment.begin()
            with transaction:
                yield transaction

    def database(self, name: bytes, transaction: lmdb.Transaction) -> lmdb._Database:
        """A database that exists."""
        return self.environment.open_db(name, txn=transaction, create=False)

    def newest_manifest(self, transaction: lmdb.Transaction) -> tuple[bytes, bytes] | None:
        """Key and value of the last manifest; None before the first commit."""
        import lmdb

        try:
            cursor = transaction.cursor(db=self.database(_MANIFESTS, transaction))
        except lmdb.NotFoundError:
            return None
        return (bytes(cursor.key()), bytes(cursor.value())) if cursor.last() else None

    def _own(self) -> None:
        """In a forked child, open the file anew: LMDB must not use the parent's environment but to let go of it."""
        if self.process != os.getpid():
            self.environment.close()
            self.environment, self.process = _open_environment(self.path), os.getpid()

    def make_databases(self) -> None:
        """Make both databases in one transaction."""
        with self.turn, _disk_errors_are_said(self.path), self.environment.begin(write=True) as transaction:
            for name in (_IDS, _MANIFESTS):
                self.environment.open_db(name, txn=transaction)

    def write(self, places: Sequence[bytes], removed: Sequence[bytes], generation: int, manifest: bytes) -> None:
        """Remove ids, put others (key and place end to end) and a manifest in one transaction, enlarging the map as it takes."""
        import lmdb

        with self.turn:
            while True:
                try:
                    with _disk_errors_are_said(self.path):
                        return self._write_once(places, removed, generation, manifest)
                except (lmdb.MapFullError, lmdb.MapResizedError):
                    size = max(self.environment.info()["map_size"] * 2, (self.path / DATA).stat().st_size * 2)
                    self.environment.set_mapsize(size)

    def _write_once(self, places: Sequence[bytes], removed: Sequence[bytes], generation: int, manifest: bytes) -> None:
        transaction = self.environment.begin(write=True)
        try:
            ids, manifests = (self.database(name, transaction) for name in (_IDS, _MANIFESTS))
            for id in removed:
                transaction.delete(id, db=ids)
            for place in places:
                id = place[: -_PLACE.size]
                transaction.put(id, _sealed(id, place[-_PLACE.size :]), db=ids)
            key = _GENERATION.pack(generation)
            transaction.put(key, _sealed(key, manifest), db=manifests)
            transaction.delete(_GENERATION.pack(max(0, generation - _KEPT_MANIFESTS)), db=manifests)
            directory.operations.commit(transaction.commit)
        except BaseException:
            transaction.abort()
            raise


_environments: dict[tuple[int, int], _Shared] = {}
_environments_lock = threading.RLock()  # a catalog may be collected, and let go, while this thread holds it


def _after_fork_in_child() -> None:
    """No thread of the parent goes on here, so none would ever give back what it held."""
    global _environments_lock
    _environments_lock = threading.RLock()
    for shared in _environments.values():
        shared.turn = threading.RLock()


os.register_at_fork(after_in_child=_after_fork_in_child)


def catalog_path(index_path: Path) -> Path:
    """The folder of the catalog."""
    return Path(index_path, "catalog.lmdb")


def structural_problems(data: Path) -> list[str]:
    """What is wrong in the pages of an LMDB file, found without liblmdb."""
    from lmdb import verify

    try:
        return [str(problem) for problem in verify.verify(str(data), subdir=False)]  # type: ignore[no-untyped-call]
    except verify.VerifyError as error:
        return [str(error)]


def _share(path: Path, *, create: bool, may_change: bool) -> _Shared:
    """The environment of a catalog: the one that is open already, or a new one if the guard lets its file pass."""
    data = path / DATA
    with _environments_lock:
        empty = create and not (path / RECORD).exists() and (not data.exists() or data.stat().st_size == 0)
        if not empty:
            check_catalog_file(path, structural_problems, may_change=may_change)
            if (shared := _environments.get(_identity(data))) is not None:
                shared.users += 1
                return shared
        shared = _Shared(path, _open_environment(path))
        _environments[_identity(data)] = shared
        return shared


def _open_environment(path: Path) -> lmdb.Environment:
    import lmdb

    writable = os.access(path, os.W_OK)
    if writable:
        allocate_lock_file(path)
    size = (path / DATA).stat().st_size if (path / DATA).exists() else 0
    map_size = max(_FIRST_MAP, -(-2 * size // _MAP_ROUND) * _MAP_ROUND)
    with _disk_errors_are_said(path):
        return lmdb.open(str(path), map_size=map_size, max_dbs=8, readonly=not writable, lock=writable)


@contextmanager
def _disk_errors_are_said(path: Path) -> Iterator[None]:
    """What LMDB says of the disk becomes an error of ours; that its map is too small is for the caller."""
    import lmdb

    try:
        yield
    except (lmdb.MapFullError, lmdb.MapResizedError):
        raise
    except lmdb.Error as error:
        if isinstance(error, lmdb.DiskError) or free_bytes(path) < _FULL_BYTES:
            raise disk_full(path / DATA) from error
        raise StorageError(
            f"{path / DATA}: LMDB cannot open or write it: {error}. Check the disk (dmesg), then run the command again."
        ) from error


def _let_go(shared: _Shared) -> None:
    """One user less; the last one closes the environment."""
    with _environments_lock:
        shared.users -= 1
        if not shared.users:
            shared.environment.close()
            for identity in [key for key, value in _environments.items() if value is shared]:
                del _environments[identity]


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def _sealed(key: bytes, content: bytes) -> bytes:
    return content + _check(key, content)


def _check(key: bytes, content: bytes) -> bytes:
    return hash64(key + content).to_bytes(_CHECK_BYTES, "little")

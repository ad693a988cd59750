"""The root of the error tree, and the errors of stored bytes.

    ColindexError
    └── StorageError
        ├── IndexNotFoundError      (FileNotFoundError)  no such folder, or a folder that is no index
        ├── IndexNotBuiltError                           a build has begun here but nothing was committed yet
        ├── IndexExistsError        (FileExistsError)    the output folder exists already
        ├── IndexLockedError                             another process is writing this index
        ├── IndexReadOnlyError      (PermissionError)    the folder of this index cannot be written
        ├── CorruptIndexError                            bytes differ from what was committed
        ├── FormatTooNewError                            written by a newer colindex
        ├── DiskSpaceError          (OSError)            not enough room for what is about to be written
        └── InvalidIdError          (ValueError)         an id that the catalog cannot hold

Every message says where, what was expected, what was found, and the way out. The errors of retrieval proper
(`colindex.errors`) grow from the same root.
"""

__all__ = [
    "ColindexError",
    "CorruptIndexError",
    "DiskSpaceError",
    "FormatTooNewError",
    "IndexExistsError",
    "IndexLockedError",
    "IndexNotBuiltError",
    "IndexNotFoundError",
    "IndexReadOnlyError",
    "InvalidIdError",
    "StorageError",
]


class ColindexError(Exception):
    """Anything that colindex raises on purpose."""


class StorageError(ColindexError):
    """Something about the bytes of an index."""


class IndexNotFoundError(StorageError, FileNotFoundError):
    """There is no index at this path."""


class IndexNotBuiltError(StorageError):
    """A build has begun here, but no generation was committed yet."""


class IndexExistsError(StorageError, FileExistsError):
    """The output folder exists already."""


class IndexLockedError(StorageError):
    """Another process is writing this index."""


class IndexReadOnlyError(StorageError, PermissionError):
    """The folder of this index cannot be written."""


class CorruptIndexError(StorageError):
    """Bytes on disk differ from what was committed."""


class FormatTooNewError(StorageError):
    """The index was written by a newer colindex."""


class DiskSpaceError(StorageError, OSError):
    """There is not enough room for what is about to be written."""


class InvalidIdError(StorageError, ValueError):
    """An external id that the catalog cannot hold."""

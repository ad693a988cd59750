"""One tiny checkpoint of each kind, and its encoder. Read only: who changes files copies them first."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from colindex.encoder import Encoder
from tests import checkpoints
from tests.encoder.oracle import Copied, Encoders, Folders

METADATA = {"query_maxlen": 12, "doc_maxlen": 20, "query_token_id": "[unused0]", "doc_token_id": "[unused1]"}


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """One checkpoint of each kind."""
    root = tmp_path_factory.mktemp("checkpoints")
    checkpoints.bert(root / "transformers")
    return {
        "transformers": root / "transformers",
        "plain": checkpoints.plain(root / "plain", prompts={"query": "query: ", "passage": "passage: "}),
        "stanford": checkpoints.stanford(root / "stanford", metadata=METADATA),
        "pylate": checkpoints.pylate(root / "pylate"),
        "native": checkpoints.native(root / "native"),
        "pooling": checkpoints.native(root / "pooling", pool_factor=2),
        "lengths": checkpoints.native(root / "lengths", normalize=False),
    }


@pytest.fixture(scope="session")
def encoders(folders: Folders) -> Encoders:
    """Each of them loaded."""
    return {kind: Encoder.load(folder) for kind, folder in folders.items()}


@pytest.fixture
def copied(folders: Folders, tmp_path: Path) -> Copied:
    """A copy of a checkpoint, to be damaged."""
    return lambda kind: Path(shutil.copytree(folders[kind], tmp_path / kind))

"""Importing loads no model library; loading says nothing and leaves the libraries as they were."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from colindex.encoder import Encoder
from tests.encoder.oracle import TEXT, Folders


def test_import_is_light() -> None:
    code = """
import sys, colindex.encoder
print(*{"torch", "transformers", "sentence_transformers", "scipy"} & set(sys.modules))
"""
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert (done.stdout, done.stderr) == ("\n", "")


@pytest.mark.parametrize("kind", ["transformers", "plain", "stanford", "pylate", "native"])
def test_loading_says_nothing(
    kind: str, folders: Folders, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    _show_bars()
    Encoder.load(folders[kind]).encode_documents([TEXT])
    assert capfd.readouterr() == ("", "")
    assert not caplog.records


def test_the_libraries_settings_come_back(folders: Folders) -> None:
    import logging

    from transformers.utils import logging as library

    roots = [logging.getLogger("transformers"), logging.getLogger("sentence_transformers")]
    _show_bars()
    before = [(root.handlers, root.propagate, root.level) for root in roots]
    Encoder.load(folders["plain"])
    assert library.is_progress_bar_enabled()
    assert [(root.handlers, root.propagate, root.level) for root in roots] == before


def _show_bars() -> None:
    """As an interactive user has them."""
    from transformers.utils import logging as library

    switch: Any = library.enable_progress_bar
    switch()

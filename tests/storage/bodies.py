"""What needs the native reads is skipped where they were not built, and the report says so."""

from __future__ import annotations

import pytest

from colindex.storage.blocks import engines

__all__ = ["needs_native"]

needs_native = pytest.mark.skipif(engines() == ("python",), reason="the native reads are not built here")

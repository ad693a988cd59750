"""Benchmarks that are measured inside a memory limit load no more than what they measure."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "transformers", "faiss", "matplotlib")


@pytest.mark.parametrize("name", ["scale", "larger_than_memory"])
def test_no_model_and_no_plot_is_loaded_before_it_is_used(name: str) -> None:
    code = f"import sys, benchmarks.{name}; print([heavy for heavy in {HEAVY} if heavy in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

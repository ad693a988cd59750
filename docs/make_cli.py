"""Write docs/CLI.md from the commands' own help."""

from __future__ import annotations

from pathlib import Path

from colindex.cli.reference import reference

if __name__ == "__main__":
    (Path(__file__).parent / "CLI.md").write_text(reference(), encoding="utf-8")

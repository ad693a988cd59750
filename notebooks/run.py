"""Run notebooks in place, so that a second run changes nothing but what it measures.

    python notebooks/run.py [NOTEBOOK.ipynb ...]

1. Run every cell in a kernel of its own, in the folder of the notebook. A cell that fails ends it, and nothing is written.
2. Leave out when each cell ran, and join what it printed in one piece however it came.
3. Write it where it was.

`jupyter execute` passes neither of the two settings of step 2 on to the client that runs the cells (nbclient 0.11).
"""

from __future__ import annotations

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

SECONDS = 1800
"""That a cell may take."""


def run(path: Path) -> None:
    """Run one notebook."""
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # of an earlier run that did not leave its times out
    resources = {"metadata": {"path": str(path.parent)}}
    NotebookClient(notebook, timeout=SECONDS, record_timing=False, coalesce_streams=True, resources=resources).execute()
    nbformat.write(notebook, path)


def main() -> None:
    """Run those that are named, or all."""
    for path in map(Path, sys.argv[1:] or sorted(map(str, Path(__file__).parent.glob("*.ipynb")))):
        sys.stderr.write(f"running {path}\n")
        run(path)


if __name__ == "__main__":
    main()

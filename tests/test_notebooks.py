"""The notebooks: each is whole, shows pictures, uses only public names, and runs."""

from __future__ import annotations

import ast
import json
import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import colindex

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
MAXIMUM = 1_000_000  # bytes of one; those of all are checked too
BESIDE = {"IPython", "colindex", "matplotlib", "numpy"}  # what a notebook may import, besides Python's own library

# The sizes with which they run here; each name stands in the cell that is tagged `parameters`.
SMALL = {"PASSAGES": 40, "SHOWN": 25, "DOCUMENTS": 2_000, "QUERIES": 60, "PICTURES": 30, "OBJECTS": 20}

needs_a_kernel = pytest.mark.skipif(
    find_spec("nbclient") is None or find_spec("ipykernel") is None,
    reason="the extra `notebooks` is not installed: pip install -e '.[notebooks]'",
)


def _names(path: Path) -> str:
    return path.stem


def _cells(path: Path) -> list[dict[str, Any]]:
    cells: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return cells


def _code(path: Path) -> list[dict[str, Any]]:
    return [cell for cell in _cells(path) if cell["cell_type"] == "code"]


def _source(cell: dict[str, Any]) -> str:
    return "".join(cell["source"])


def _outputs(path: Path) -> Iterator[dict[str, Any]]:
    for cell in _code(path):
        yield from cell["outputs"]


def _nodes(path: Path) -> Iterator[ast.AST]:
    for cell in _code(path):
        yield from ast.walk(ast.parse(_source(cell)))


def _parameters(path: Path) -> dict[str, Any]:
    (cell,) = (cell for cell in _code(path) if "parameters" in cell["metadata"].get("tags", []))
    return {
        target.id: ast.literal_eval(node.value)
        for node in ast.parse(_source(cell)).body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def test_there_are_four_and_the_page_beside_them_names_each() -> None:
    page = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert len(NOTEBOOKS) == 4
    assert [path.name for path in NOTEBOOKS if f"]({path.name})" not in page] == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=_names)
def test_each_is_a_valid_notebook(path: Path) -> None:
    nbformat = pytest.importorskip("nbformat", reason="the extra `notebooks` is not installed")
    nbformat.validate(nbformat.read(path, as_version=4))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=_names)
def test_each_was_run_from_top_to_bottom_without_an_error_or_a_warning(path: Path) -> None:
    assert [cell["execution_count"] for cell in _code(path)] == list(range(1, len(_code(path)) + 1))
    for output in _outputs(path):
        assert output["output_type"] != "error"
        assert output.get("name") != "stderr", "".join(output["text"])


@pytest.mark.parametrize("path", NOTEBOOKS, ids=_names)
def test_each_was_run_so_that_a_second_run_changes_little(path: Path) -> None:
    """No times of cells, and what a cell printed in one piece."""
    for cell in _code(path):
        assert "execution" not in cell["metadata"]
        names = [output.get("name") for output in cell["outputs"]]
        assert "stdout" not in [name for name, before in zip(names[1:], names, strict=False) if name == before]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=_names)
def test_each_shows_pictures(path: Path) -> None:
    pictures = [output["data"]["image/png"] for output in _outputs(path) if "image/png" in output.get("data", {})]
    assert any(len(picture) > 10_000 for picture in pictures)


def test_matches_are_shown_as_pages() -> None:
    for path in NOTEBOOKS[:2]:
        pages = [
            "".join(output["data"]["text/html"]) for output in _outputs(path) if "text/html" in output.get("data", {})
        ]
        assert any("What each query token adds" in page for page in pages), path.name


def test_they_are_small_and_tell_nothing_of_the_machine_that_ran_them() -> None:
    texts = {path.name: path.read_text(encoding="utf-8") for path in NOTEBOOKS}
    assert {name: len(text) for name, text in texts.items() if len(text) > MAXIMUM} == {}
    assert sum(map(len, texts.values())) < 3 * MAXIMUM
    assert [name for name, text in texts.items() if "site-packages" in text or "/tmp/" in text] == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=_names)
def test_each_uses_only_public_names(path: Path) -> None:
    for node in _nodes(path):
        if isinstance(node, ast.Import):
            assert not any(alias.name.split(".")[0] == "colindex" for alias in node.names)
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "colindex":
            assert node.module == "colindex"
            assert {alias.name for alias in node.names} <= set(colindex.__all__)
        if isinstance(node, ast.Attribute):
            assert not node.attr.startswith("_"), ast.unparse(node)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=_names)
def test_each_imports_nothing_that_the_extra_does_not_bring(path: Path) -> None:
    import sys

    modules = {node.module or "" for node in _nodes(path) if isinstance(node, ast.ImportFrom)}
    modules |= {alias.name for node in _nodes(path) if isinstance(node, ast.Import) for alias in node.names}
    assert {module.split(".")[0] for module in modules} <= BESIDE | set(sys.stdlib_module_names)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=_names)
def test_links_lead_to_notebooks(path: Path) -> None:
    text = "\n".join(_source(cell) for cell in _cells(path))
    linked = {part.split(")")[0] for part in text.split("](")[1:]}
    assert [link for link in linked if link.endswith(".ipynb") and not (FOLDER / link).is_file()] == []


@needs_a_kernel
@pytest.mark.parametrize("path", NOTEBOOKS, ids=_names)
def test_each_runs_on_a_small_setting(path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))  # else the kernel keeps a history in the home folder
    notebook = nbformat.read(path, as_version=4)
    parameters = _parameters(path)
    assert parameters.keys() <= SMALL.keys()
    for cell in notebook.cells:
        if "parameters" in cell.metadata.get("tags", []):
            cell.source = "\n".join(f"{name} = {SMALL[name]}" for name in parameters)
    ran = NotebookClient(
        notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(FOLDER)}}
    ).execute()
    warnings = [
        "".join(output.text)
        for cell in ran.cells
        for output in cell.get("outputs", [])
        if output.output_type == "stream" and output.name == "stderr"
    ]
    assert warnings == []

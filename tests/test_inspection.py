"""What a Match says is what the search did, and each token that it shows is the token's place in the text."""

from __future__ import annotations

import time
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest

from colindex import BuildParams, Document, Encoder, Index, SearchParams, TokenBatch
from colindex.errors import CorruptIndexError, DocumentNotFoundError, QueryError, VectorError
from colindex.kernels import chosen
from colindex.match import Match
from colindex.pooling import pool
from tests.kernels.bodies import BODIES, Body
from tests.words import WORDS, WordEncoder, batches, documents

TEXTS = {
    "ascii": "The quick brown fox (jumps) over 1,234 lazy dogs; unbelievable!",
    "accents": "Café, naïve façade: Übergröße in Ærøskøbing, Łódź and Đà Nẵng.",
    "combining": "cafe\u0301 nai\u0308ve A\u030angstro\u0308m \u0939\u093f\u0928\u094d\u0926\u0940 Vie\u0323\u0302t",
    "cjk": "日本語の文章です。東京は大きい。中文也可以 한국어 문장",
    "emoji": "I 👍🏽 love 🎉 parties 👩‍👩‍👧 and flags 🇫🇷 a lot",
    "html": '<b>bold</b> & <script>alert("x")</script> &lt;not a tag&gt;',
    "long": "Many words make a long text, longer than any window of the encoder. " * 120,
    "spaces": "  leading\tand\n\nbroken   lines\u00a0here ",
    "empty": "",
}


def total(match: Match) -> float:
    return sum(one.score for one in match.contributions)


def queries(count: int) -> list[str]:
    rng = np.random.default_rng(4)
    return [" ".join([*rng.choice(WORDS, 5).tolist(), f"rare{rng.integers(400)}"]) for _ in range(count)]


# ---- scores


@pytest.fixture(
    scope="module",
    params=[(1, 1, 8_000_000), (2, 1, 700), (4, 2, 8_000_000), (8, 3, 500), (2, 2, 700)],
    ids=lambda of: f"{of[0]}bits-pool{of[1]}-{'many' if of[2] < 1000 else 'one'}",
)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """400 documents, at each bit width, pooled and not, in one and in many segments."""
    bits, factor, segment_tokens = request.param
    path = tmp_path_factory.mktemp("inspect") / "words.colindex"
    params = BuildParams(bits=bits, pool_factor=factor, segment_tokens=segment_tokens)
    Index.build(path, documents(400), WordEncoder(dim=24), params)
    return path


@pytest.mark.parametrize("body", BODIES, ids=str)
@pytest.mark.parametrize("exact", [True, False])
def test_contributions_add_up_to_the_score_of_every_hit(
    folder: Path, body: Body, exact: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kernel in ("gather", "score_records", "similarities", "top_centroids"):
        monkeypatch.setattr(chosen, kernel, getattr(body, kernel))
    monkeypatch.setattr(chosen, "refine", body.refine if body.instruction_set else None)
    with Index.open(folder, encoder=WordEncoder(dim=24)) as index:
        for text in queries(6):
            for hit in index.search(text, params=SearchParams(exact=exact)):
                match = index.inspect(text, hit.id, exact=False)
                assert match.score == hit.score
                assert total(match) == pytest.approx(hit.score, rel=1e-5)
                assert sum(one.share for one in match.contributions) == pytest.approx(1)


def test_each_stored_vector_stands_for_the_tokens_that_the_build_merged(folder: Path) -> None:
    encoder = WordEncoder(dim=24)
    with Index.open(folder, encoder=encoder) as index:
        factor = index.manifest.params["pool_factor"]
        for document in documents(400)[:400:37]:
            match = index.inspect("amber", document.id)
            batch = encoder.encode_documents([document])
            source = pool(batch, factor).source
            assert match.stored.tolist() == (
                list(range(len(batch.vectors))) if source is None else source.stored.tolist()
            )
            assert match.token_ids is not None
            assert batch.token_ids is not None
            assert match.token_ids.tolist() == batch.token_ids.tolist()
            shown = [text for stored in range(match.similarities.shape[1]) for text in match.texts(stored)]
            assert sorted(shown) == sorted(document.content.split())
            assert (match.document, match.id) == (document, document.id)


def test_exact_similarities_are_those_of_what_was_coded(folder: Path) -> None:
    encoder = WordEncoder(dim=24)
    with Index.open(folder, encoder=encoder) as index:
        factor = index.manifest.params["pool_factor"]
        query = encoder.encode_query("amber basin cedar")
        for document in documents(400)[::91]:
            match = index.inspect("amber basin cedar", document.id)
            coded = pool(encoder.encode_documents([document]), factor).tokens.vectors.astype(np.float32)
            assert match.exact is not None
            assert match.exact == pytest.approx(query @ coded.T, abs=1e-4)
            assert match.exact_score == pytest.approx(float((query @ coded.T).max(axis=1).sum()), abs=1e-3)
            lost = np.abs(match.exact - match.similarities).max()
            assert lost < {1: 1.0, 2: 0.6, 4: 0.2, 8: 0.05}[index.manifest.bits]


def test_similarities_before_quantization_need_the_encoder_and_are_left_out_on_demand(folder: Path) -> None:
    with Index.open(folder, encoder=WordEncoder(dim=24)) as index:
        assert index.inspect("amber", "doc-1").exact is not None
        assert index.inspect("amber", "doc-1", exact=False).exact is None
        vectors = index.encode_query("amber")
        assert index.inspect(vectors, "doc-1").exact is not None
    with Index.open(folder) as index:
        match = index.inspect(vectors, "doc-1")
        assert (match.exact, match.exact_score, match.names) == (None, None, None)
        assert match.texts(0) == ("title1",)


def test_a_query_of_vectors_gets_the_match_of_its_text(folder: Path) -> None:
    with Index.open(folder, encoder=WordEncoder(dim=24)) as index:
        text, vectors = (index.inspect(query, "doc-9") for query in ("amber rare9", index.encode_query("amber rare9")))
        assert (text.query, text.query_tokens) == ("amber rare9", ("amber", "rare9"))
        assert (vectors.query, vectors.query_tokens) == (None, ("#0", "#1"))
        assert np.array_equal(text.similarities, vectors.similarities)
        best = text.contributions[1]
        assert "rare9" in text.texts(best.stored)
        assert best.share == pytest.approx(best.score / text.score)


# ---- indexes of vectors


def test_an_index_of_vectors_shows_positions(tmp_path: Path) -> None:
    some = batches(60)
    Index.build_from_vectors(tmp_path / "i", some, BuildParams(bits=8))
    query = np.random.default_rng(0).standard_normal((3, 16)).astype(np.float32)
    with Index.open(tmp_path / "i") as index:
        for hit in index.search_vectors(query, 60):
            match = index.inspect(query, hit.id)
            number = int(hit.id.removeprefix("v"))
            stored = some[0].vectors[some[0].offsets[number] : some[0].offsets[number + 1]]
            assert match.score == hit.score
            assert match.similarities == pytest.approx(query @ stored.T, abs=0.2)
            assert match.stored.tolist() == list(range(len(stored)))
            assert (match.token_ids, match.spans, match.exact) == (None, None, None)
            assert (match.document.content, match.query_tokens) == ("", ("#0", "#1", "#2"))
            assert total(match) == (pytest.approx(hit.score, rel=1e-5) if len(stored) else 0)
            assert [match.texts(at) for at in range(len(stored))] == [("",)] * len(stored)


def test_spans_of_vectors_without_a_text_point_nowhere(tmp_path: Path) -> None:
    batch = TokenBatch(("a",), np.eye(8, dtype=np.float32)[:2], np.array([0, 2]), spans=np.array([[0, 4], [5, 9]]))
    Index.build_from_vectors(tmp_path / "i", [batch])
    with Index.open(tmp_path / "i") as index:
        match = index.inspect(np.eye(8, dtype=np.float32)[:1], "a")
        assert match.spans is None
        assert match.texts(0) == ("",)


def test_nothing_to_match(tmp_path: Path) -> None:
    Index.build(tmp_path / "i", [Document("none", " ... "), Document("some", "amber")], WordEncoder())
    with Index.open(tmp_path / "i", encoder=WordEncoder()) as index:
        none = index.inspect("amber", "none")
        assert (none.score, none.exact_score, none.contributions) == (-np.inf, -np.inf, ())
        assert none.similarities.shape == (1, 0)
        asked_nothing = index.inspect("...", "some")
        assert asked_nothing.similarities.shape == (0, 1)
        assert (asked_nothing.score, asked_nothing.contributions) == (0, ())


# ---- refusals


def test_what_cannot_be_inspected(tmp_path: Path) -> None:
    Index.build(tmp_path / "i", documents(20), WordEncoder())
    with Index.open(tmp_path / "i", encoder=WordEncoder()) as index:
        with pytest.raises(DocumentNotFoundError, match="'nowhere'.*a search .* shows the ids of what it finds"):
            index.inspect("amber", "nowhere")
        index.delete(["doc-2"])
        with pytest.raises(DocumentNotFoundError, match="'doc-2'"):
            index.inspect("amber", "doc-2")
        with pytest.raises(VectorError):
            index.inspect(np.ones((2, 7), np.float32), "doc-1")
        with pytest.raises(QueryError, match="finite"):
            index.inspect(np.full((1, 16), np.nan, np.float32), "doc-1")
    with Index.open(tmp_path / "i") as index, pytest.raises(QueryError, match="needs the encoder"):
        index.inspect("amber", "doc-1")


def test_records_of_another_codebook_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Index.build(tmp_path / "i", documents(40), WordEncoder())
    with Index.open(tmp_path / "i", encoder=WordEncoder()) as index:
        codebook = index._open.snapshot.codebook
        codes = codebook.codes
        fewer = replace(codebook, codes=codes._replace(centroids=codes.centroids[:1], steps=codes.steps[:1]))
        monkeypatch.setattr(index._open, "snapshot", replace(index._open.snapshot, codebook=fewer))
        with pytest.raises(CorruptIndexError, match="colindex verify"):
            index.inspect("amber", "doc-5")


def test_an_encoder_that_makes_other_tokens_has_nothing_to_compare(tmp_path: Path) -> None:
    Index.build(tmp_path / "i", documents(20), WordEncoder())
    shorter = WordEncoder()
    shorter.max_document_tokens = 1  # the fingerprint of this encoder does not tell
    with Index.open(tmp_path / "i", encoder=shorter) as index:
        match = index.inspect("amber", "doc-3")
        assert match.exact is None
        assert match.similarities.shape[1] > 1


# ---- a real encoder: spans and names


@pytest.fixture(scope="module")
def minilm(tmp_path_factory: pytest.TempPathFactory) -> Index:
    """One document of each text, with a title and without."""
    encoder = Encoder.load("minilm", max_tokens=128)
    path = tmp_path_factory.mktemp("minilm") / "i"
    titled = [Document(f"{name}-titled", text, title="Café 🎉 title") for name, text in TEXTS.items()]
    Index.build(path, [*(Document(name, text) for name, text in TEXTS.items()), *titled], encoder, BuildParams(bits=4))
    return Index.open(path, encoder=encoder)


@pytest.mark.parametrize("suffix", ["", "-titled"])
@pytest.mark.parametrize("name", TEXTS)
def test_each_token_is_its_place_in_the_text(minilm: Index, name: str, suffix: str) -> None:
    """The characters of a span, as the tokenizer reads them, are the vocabulary's name of the token.

    Hangul comes apart into letters: their tokens share the span of the syllable, and are together what it is read as.
    """
    match = minilm.inspect("a question", name + suffix)
    tokenizer = minilm._encoder._checkpoint.tokenizer  # type: ignore[union-attr]
    content = match.document.content
    assert match.spans is not None or not content
    assert match.names is not None
    shown = [] if match.spans is None else match.spans.tolist()
    assert [match.texts(at)[0] for at in range(len(shown))] == [content[start:stop] for start, stop in shown]
    for (start, stop), named in groupby(zip(shown, match.names, strict=True), key=lambda one: one[0]):
        read = tokenizer.backend_tokenizer.normalizer.normalize_str(content[start:stop]).strip()
        names = [name.removeprefix("##") for _, name in named]
        assert stop > start
        assert names == ["[UNK]"] or "".join(names) == read
    starts = [start for start, _ in shown]
    assert starts == sorted(starts)
    bare = [place for place in range(len(content)) if content[place].isalnum()]
    covered = {place for start, stop in shown for place in range(start, stop)}
    window = shown[-1][1] if shown else 0
    assert {place for place in bare if place < window} <= covered
    assert window == len(content.rstrip()) or name == "long"


def test_a_long_text_ends_at_the_window(minilm: Index) -> None:
    match = minilm.inspect("window", "long")
    assert len(match.stored) == 126  # [CLS] and [SEP] count, and are not stored
    assert match.spans is not None
    assert match.spans[-1, 1] < len(TEXTS["long"])


def test_query_tokens_are_the_texts_of_the_query(minilm: Index) -> None:
    match = minilm.inspect("Naïve 日本 unbelievable? 🎉", "ascii")
    assert match.query_tokens[:3] == ("Naïve", "日", "本")
    assert "".join(match.query_tokens[3:-1]) == "unbelievable?"


def test_tokens_that_no_text_holds_are_named_by_the_vocabulary(tmp_path: Path) -> None:
    from tests import checkpoints

    encoder = Encoder.load(checkpoints.pylate(tmp_path / "model"))
    Index.build(tmp_path / "i", [Document("a", "the cat wrote")], encoder)
    with Index.open(tmp_path / "i", encoder=encoder) as index:
        match = index.inspect("the cat", "a")
        assert "[MASK]" in match.query_tokens
        assert {"the", "cat"} <= set(match.query_tokens)
        assert match.names is not None
        assert match.names[0] == "[CLS]"
        assert match.texts(0) == ("[CLS]",)
        assert match.exact is not None
        assert match.exact == pytest.approx(match.similarities, abs=0.3)


def test_inspecting_takes_milliseconds(minilm: Index) -> None:
    query = minilm.encode_query("what makes a long text?")
    minilm.inspect(query, "long", exact=False)
    seconds = []
    for _ in range(5):
        begun = time.perf_counter()
        minilm.inspect(query, "long", exact=False)
        seconds.append(time.perf_counter() - begun)
    assert min(seconds) < 0.02

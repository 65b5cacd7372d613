"""Three checks that what is said of a model is what it computes: reconstruction, identity, unchanged outputs."""

import json

import torch
import xarray as xr
from torch import Tensor, nn

from attnxr import schema
from attnxr.probe import capture
from attnxr.probe.heads import read_by_output
from attnxr.probe.interface import Watcher
from attnxr.probe.window import Window
from attnxr.vocabulary.arrival import read
from attnxr.vocabulary.encodings import Vocabulary, random_text
from attnxr.vocabulary.paths import relative_error

_LENGTH = 32


def check(window: Window, vocabulary: Vocabulary) -> xr.Dataset:
    """Run the checks on a text of random tokens (seeded), at most 32 of them.

    Parameters
    ----------
    window : Window
    vocabulary : Vocabulary

    Returns
    -------
    xr.Dataset
        See `attnxr.schema.CHECKS`.
    """
    window.check_embeddings()
    length = min(_LENGTH, window.layout.max_tokens or _LENGTH)
    token_ids = random_text(window, vocabulary.size, length, seed=1)
    written, output = _plain(window, token_ids)
    found = capture.encode(window, token_ids.tolist(), (), None)
    gate = found["gate"].numpy() if "gate" in found else None
    given = torch.from_numpy(read_by_output(found["head_encoding"].numpy(), gate))
    rebuilt = []
    for projection, of_heads in zip(window.layout.projections, given, strict=True):
        heads = of_heads.transpose(0, 1).flatten(1)
        with torch.no_grad():
            rebuilt.append(projection(heads.to(window.model.device, window.model.dtype)[None])[0])
    watched = window.run(token_ids[None], Watcher())
    verification = vocabulary.verification
    text = read(vocabulary.window, 0, token_ids)
    # What cross-attention makes of the encoder's text is compared with nothing else of the vocabulary.
    spaces = [space for space in verification.paths if window.stack != "cross" or space == "embedding"]
    identity = {space: vocabulary.path(space, 0).error(space, text) for space in spaces}
    result = xr.Dataset(
        {
            "reconstruction": ("layer", [_error(*pair) for pair in zip(rebuilt, written, strict=True)]),
            "identity": ("space", list(identity.values())),
            "unchanged": ((), _error(watched[0][0], output)),
        },
        coords={"layer": window.layout.layers, "space": list(identity)},
    )
    result.attrs = {
        "path": json.dumps(dict(verification.paths)),
        "tolerance": verification.tolerance,
        "passed": int(all(bool((result[name] <= verification.tolerance).all()) for name in result.data_vars)),
    }
    return schema.describe(result, schema.CHECKS)


def _plain(window: Window, token_ids: Tensor) -> tuple[list[Tensor], Tensor]:
    """What each layer's attention block puts out, and the model's output, without attnxr."""
    model = window.view()
    if window.is_coarse:  # what other kernels round otherwise adds up to more than any tolerance
        model.set_attn_implementation("eager")
    written: list[Tensor] = []

    def keep(module: nn.Module, args: tuple, output: Tensor) -> None:
        written.append(output[0])

    names = {id(module): name for name, module in window.model.named_modules()}
    for name in {names[id(projection)] for projection in window.layout.projections}:
        model.get_submodule(name).register_forward_hook(keep)
    return written, window.run_alone(token_ids[None], model)[0]


def _error(found: Tensor, true: Tensor) -> float:
    return relative_error(*(each.to("cpu", torch.float64).numpy() for each in (found, true)))

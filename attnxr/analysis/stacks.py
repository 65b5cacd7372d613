"""Which stack of an encoder-decoder an analysis is about: the one that its encodings are of."""

import xarray as xr

from attnxr.model import Model


def meant(model: Model, encodings: object) -> Model:
    """The model that encodings are of: of an encoder-decoder with their stack as the one that is meant."""
    stack = encodings.attrs.get("stack") if isinstance(encodings, xr.Dataset) else None
    return model.of_stack(stack) if isinstance(stack, str) and stack in model.stacks else model

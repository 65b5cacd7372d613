"""Models and encodings for the asv suites: made once in each process, however often asv calls a setup."""

from functools import cache

import xarray as xr
from transformers import RobertaModel

import attnxr
from benchmarks.parts import shapes


@cache
def hf_model(name: str) -> RobertaModel:
    """The Hugging Face model of a shape, by the shape's name."""
    return shapes.roberta(shapes.BY_NAME[name])


@cache
def model(name: str) -> attnxr.Model:
    """That model, looked into."""
    return attnxr.Model(hf_model(name))


@cache
def encodings(name: str) -> xr.Dataset:
    """Its encodings of a text."""
    return shapes.encode(model(name), shapes.BY_NAME[name])

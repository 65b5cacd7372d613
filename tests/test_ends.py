"""What must hold at both ends of the versions that pyproject.toml allows; .ci/ends runs it there."""

from __future__ import annotations

import importlib
import pkgutil
import re
from pathlib import Path

import holoviews as hv
import panel as pn
import pytest
import torch
from transformers import BertConfig, BertModel

import attnxr
from attnxr.dashboard.parts import Heading

README = Path(__file__).parent.parent / "README.md"


@pytest.mark.parametrize("name", [found.name for found in pkgutil.walk_packages(attnxr.__path__, "attnxr.")])
def test_every_module_is_imported(name: str) -> None:
    importlib.import_module(name)


def test_the_readmes_api_runs_as_it_is_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(r"```python\n(import attnxr\n.*?)```", README.read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    assert (tmp_path / "near.nc").exists()


def test_what_is_private_elsewhere_and_used_here_is_there() -> None:
    layers = {"hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 8}
    hf_model = BertModel(BertConfig(vocab_size=9, **layers))
    there = [
        (torch.nn.Module(), ["_compiled_call_impl", "_forward_pre_hooks", "_forward_hooks"]),
        (torch.nn.Module(), ["_parameters", "_buffers", "_non_persistent_buffers_set"]),
        (torch.compile(torch.nn.Linear(2, 2), backend="eager"), ["_orig_mod"]),
        (torch.compile(torch.nn.Linear(2, 2).forward, backend="eager"), ["_torchdynamo_orig_callable"]),
        (torch.zeros(1), ["_version"]),
        (hf_model, ["_can_set_attn_implementation"]),
        (hf_model.config, ["_attn_implementation", "_attn_implementation_internal"]),
        (pn.extension, ["_loaded"]),
        (hv.extension, ["_loaded"]),
        (Heading, ["_stylesheets"]),
    ]
    assert [(type(one), name) for one, names in there for name in names if not hasattr(one, name)] == []

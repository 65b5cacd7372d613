"""What did this attention head just write, and which words of the whole vocabulary is that nearest to?

The public names load when they are first used, so that ``import attnxr`` is quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attnxr.analysis.comparison import compare
    from attnxr.analysis.csls import csls_neighbors
    from attnxr.analysis.hubness import hubness, hubness_remedies
    from attnxr.analysis.maps import map_encodings
    from attnxr.analysis.origins import origins
    from attnxr.analysis.overlap import overlap
    from attnxr.analysis.power import significance_power
    from attnxr.analysis.rogue import rogue_dimensions
    from attnxr.analysis.sequence import sequence_distances, sequence_neighbors
    from attnxr.analysis.significance import significance
    from attnxr.analysis.trajectories import trajectories
    from attnxr.analysis.words import words
    from attnxr.dashboard import explore
    from attnxr.errors import (
        AttnxrError,
        InputError,
        ModelNotFoundError,
        TextTooLongError,
        UnsupportedModelError,
    )
    from attnxr.model import Model, load_model

__all__ = [
    "AttnxrError",
    "InputError",
    "Model",
    "ModelNotFoundError",
    "TextTooLongError",
    "UnsupportedModelError",
    "compare",
    "csls_neighbors",
    "explore",
    "hubness",
    "hubness_remedies",
    "load_model",
    "map_encodings",
    "origins",
    "overlap",
    "rogue_dimensions",
    "sequence_distances",
    "sequence_neighbors",
    "significance",
    "significance_power",
    "trajectories",
    "words",
]

_HOMES = {
    **dict.fromkeys((name for name in __all__ if name.endswith("Error")), "attnxr.errors"),
    "Model": "attnxr.model",
    "load_model": "attnxr.model",
    "explore": "attnxr.dashboard",
    "csls_neighbors": "attnxr.analysis.csls",
    "hubness": "attnxr.analysis.hubness",
    "hubness_remedies": "attnxr.analysis.hubness",
    "rogue_dimensions": "attnxr.analysis.rogue",
    "sequence_distances": "attnxr.analysis.sequence",
    "compare": "attnxr.analysis.comparison",
    "map_encodings": "attnxr.analysis.maps",
    "origins": "attnxr.analysis.origins",
    "overlap": "attnxr.analysis.overlap",
    "sequence_neighbors": "attnxr.analysis.sequence",
    "significance": "attnxr.analysis.significance",
    "significance_power": "attnxr.analysis.power",
    "trajectories": "attnxr.analysis.trajectories",
    "words": "attnxr.analysis.words",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'attnxr' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)

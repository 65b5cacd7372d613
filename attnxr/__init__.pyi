from . import analysis, dashboard, plots, saved, schema
from .analysis.attribute import attribute, promoted
from .analysis.comparison import comparison
from .analysis.corpora import results_of
from .analysis.csls import csls_neighbors
from .analysis.decompose import decompose
from .analysis.effects import effects
from .analysis.encoder_neighbors import encoder_neighbors
from .analysis.hubness import hubness, hubness_remedies
from .analysis.maps import encoding_map
from .analysis.origins import origins
from .analysis.overlap import overlap
from .analysis.power import significance_power
from .analysis.repeats import random_repeats
from .analysis.rogue import rogue_dimensions
from .analysis.roles import roles
from .analysis.sequence import sequence_distances, sequence_neighbors
from .analysis.significance import significance
from .analysis.trajectories import trajectories
from .analysis.vocabulary_map import vocabulary_map
from .analysis.words import words
from .corpus.atlas import atlas
from .corpus.build import build_corpus
from .corpus.opened import open_corpus
from .corpus.sources import texts_of
from .dashboard import explore
from .errors import (
    AttnxrError,
    InputError,
    ModelNotFoundError,
    TextTooLongError,
    UnsupportedModelError,
)
from .inputs.continuation import Continuation
from .model import Model, load_model

__version__: str

__all__ = [
    "AttnxrError",
    "Continuation",
    "InputError",
    "Model",
    "ModelNotFoundError",
    "TextTooLongError",
    "UnsupportedModelError",
    "__version__",
    "analysis",
    "atlas",
    "attribute",
    "build_corpus",
    "comparison",
    "csls_neighbors",
    "dashboard",
    "decompose",
    "effects",
    "encoder_neighbors",
    "encoding_map",
    "explore",
    "hubness",
    "hubness_remedies",
    "load_model",
    "open_corpus",
    "origins",
    "overlap",
    "plots",
    "promoted",
    "random_repeats",
    "results_of",
    "rogue_dimensions",
    "roles",
    "saved",
    "schema",
    "sequence_distances",
    "sequence_neighbors",
    "significance",
    "significance_power",
    "texts_of",
    "trajectories",
    "vocabulary_map",
    "words",
]

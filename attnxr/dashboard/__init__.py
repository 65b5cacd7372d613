"""The dashboard: linked views over one State, for a notebook or a served page."""

from attnxr.dashboard.compute.worker import Worker
from attnxr.dashboard.session.state import State
from attnxr.dashboard.views.attention import AttentionMatrix
from attnxr.dashboard.views.compare import Compare
from attnxr.dashboard.views.dashboard import Dashboard, explore
from attnxr.dashboard.views.doing import WhatItDoes
from attnxr.dashboard.views.encoding_map import EncodingMap
from attnxr.dashboard.views.maps import HeadMap, Maps, PositionMap
from attnxr.dashboard.views.over_layers import OverLayers
from attnxr.dashboard.views.signal import SignalOrNoise
from attnxr.dashboard.views.state_of import state_of
from attnxr.dashboard.views.tables import NeighborTable, SequenceTable, TokenStrip
from attnxr.dashboard.views.take_away import TakeAway

__all__ = [
    "AttentionMatrix",
    "Compare",
    "Dashboard",
    "EncodingMap",
    "HeadMap",
    "Maps",
    "NeighborTable",
    "OverLayers",
    "PositionMap",
    "SequenceTable",
    "SignalOrNoise",
    "State",
    "TakeAway",
    "TokenStrip",
    "WhatItDoes",
    "Worker",
    "explore",
    "state_of",
]

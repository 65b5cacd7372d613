"""The dashboard: linked views over one State, for a notebook or a served page."""

from attnxr.dashboard.attention_view import AttentionMatrix
from attnxr.dashboard.compare_view import Compare
from attnxr.dashboard.encoding_map import EncodingMap
from attnxr.dashboard.given import state_of
from attnxr.dashboard.layout import Dashboard, explore
from attnxr.dashboard.map_views import HeadMap, Maps, PositionMap
from attnxr.dashboard.over_layers import OverLayers
from attnxr.dashboard.signal_view import SignalOrNoise
from attnxr.dashboard.state import State
from attnxr.dashboard.take_away import TakeAway
from attnxr.dashboard.views import NeighborTable, SequenceTable, TokenStrip
from attnxr.dashboard.worker import Worker

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
    "Worker",
    "explore",
    "state_of",
]

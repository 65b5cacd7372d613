"""HoloViews elements drawn from the Datasets; nothing here knows Panel or a server.

Each plot is a function of a Dataset. The columns it draws come from a function of their own, so that a page
which keeps a figure on screen can replace the data of its source instead of drawing the figure again.
"""

from attnxr.plots.differences import DIFFERENCES, difference_columns, difference_map, difference_palette
from attnxr.plots.encoding_map import map_columns, map_plot
from attnxr.plots.ranks import cell_outline, rank_columns, rank_map, rank_palette

__all__ = [
    "DIFFERENCES",
    "cell_outline",
    "difference_columns",
    "difference_map",
    "difference_palette",
    "map_columns",
    "map_plot",
    "rank_columns",
    "rank_map",
    "rank_palette",
]

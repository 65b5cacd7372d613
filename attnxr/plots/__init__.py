"""HoloViews elements drawn from the Datasets; nothing here knows Panel or a server.

Each plot is a function of a Dataset. The columns it draws come from a function of their own, so that a page
which keeps a figure on screen can replace the data of its source instead of drawing the figure again.
"""

from attnxr.plots.attention import attention_columns, attention_map
from attnxr.plots.attribution import attribution_columns, attribution_plot, attribution_totals
from attnxr.plots.decomposition import decomposition_columns, decomposition_plot
from attnxr.plots.differences import DIFFERENCES, difference_columns, difference_map, difference_palette
from attnxr.plots.effects import effect_columns, effect_map
from attnxr.plots.encoding_map import map_columns, map_layers, map_limits, map_plot
from attnxr.plots.grids import cell_outline
from attnxr.plots.head_card import head_card
from attnxr.plots.layer_maps import head_columns, head_map, position_columns, position_map
from attnxr.plots.measures import MEASURES, Measure, measure_values
from attnxr.plots.over_layers import over_layers_columns, over_layers_plot
from attnxr.plots.promoted import promoted_columns, promoted_plot
from attnxr.plots.roles import ROLES, role_columns, role_map, role_scatter

__all__ = [
    "DIFFERENCES",
    "MEASURES",
    "ROLES",
    "Measure",
    "attention_columns",
    "attention_map",
    "attribution_columns",
    "attribution_plot",
    "attribution_totals",
    "cell_outline",
    "decomposition_columns",
    "decomposition_plot",
    "difference_columns",
    "difference_map",
    "difference_palette",
    "effect_columns",
    "effect_map",
    "head_card",
    "head_columns",
    "head_map",
    "map_columns",
    "map_layers",
    "map_limits",
    "map_plot",
    "measure_values",
    "over_layers_columns",
    "over_layers_plot",
    "position_columns",
    "position_map",
    "promoted_columns",
    "promoted_plot",
    "role_columns",
    "role_map",
    "role_scatter",
]

"""Neighbours without their strings: each token is written once, and neighbours refer to it by its id."""

import numpy as np
import xarray as xr

from attnxr import schema
from attnxr.errors import InputError

_NAMES = {"table_token": "neighbor", "table_text": "neighbor_text"}
PACKED: dict[str, schema.Spec] = {
    "table_id": schema.Spec(("table",), "int32", "token id", "vocabulary ids of the neighbours, ascending"),
    "table_token": schema.Spec(("table",), "str", "token", "token of that id, in place of the variable 'neighbor'"),
    "table_text": schema.Spec(("table",), "str", "text of the token", "its text, in place of 'neighbor_text'"),
}


def pack(near: xr.Dataset) -> xr.Dataset:
    """Replace the strings of neighbours by a table that has each token once.

    In memory equal strings are one, and in a NetCDF file each takes its 50 bytes: a file is several times as large as
    the Dataset, and slow to write. Packed it is smaller.

    Parameters
    ----------
    near : xr.Dataset
        What `Model.neighbors` returns, or a selection from it.

    Returns
    -------
    xr.Dataset
        With ``table_id``, ``table_token`` and ``table_text`` (table) in place of ``neighbor`` and ``neighbor_text``;
        the same Dataset where there are none of these, or their strings do not follow from ``neighbor_id``.

    Examples
    --------
    >>> import attnxr, xarray
    >>> model = attnxr.load_model("minilm")
    >>> near = model.neighbors(model.encode("Time flies."))
    >>> attnxr.saved.pack(near).to_netcdf("near.nc")
    >>> attnxr.saved.unpack(xarray.open_dataset("near.nc")).identical(near)
    True
    """
    names = {table: name for table, name in _NAMES.items() if name in near.data_vars}
    if not names or "neighbor_id" not in near.data_vars:
        return near
    ids = near["neighbor_id"].variable
    known, first, which = np.unique(ids.values, return_index=True, return_inverse=True)
    packed = near.drop_vars(list(names.values()))
    packed["table_id"] = ("table", known.astype(np.int32), PACKED["table_id"].attrs)
    for table, name in names.items():
        strings = near[name].variable
        entries = strings.values.ravel()[first]
        if strings.dims != ids.dims or (entries[which.ravel()] != strings.values.ravel()).any():
            return near
        packed[table] = ("table", entries, strings.attrs)
    return packed


def unpack(packed: xr.Dataset) -> xr.Dataset:
    """Give neighbours their strings back.

    Parameters
    ----------
    packed : xr.Dataset
        What `pack` returned, or what was read from a file of it; a selection, too.

    Returns
    -------
    xr.Dataset
        As it was before; the same Dataset where there is no table.

    Raises
    ------
    InputError
        If the table is none, or lacks a neighbour.
    """
    if "table_id" not in packed.variables:
        return packed
    schema.validate(packed, PACKED, required=("neighbor_id",))
    known, ids = packed["table_id"].values, packed["neighbor_id"].variable
    which = np.searchsorted(known, ids.values)
    if (np.diff(known.astype(np.int64)) <= 0).any() or not np.isin(ids.values, known).all():
        raise InputError(
            "The Dataset's 'table_id' is not in ascending order, or lacks one of its 'neighbor_id'. Expected what "
            "attnxr.saved.pack returns, or a selection from it that leaves the table whole."
        )
    strings = {}
    for table, name in _NAMES.items():
        if table in packed.variables:
            entries = packed[table].values.astype(object)  # equal strings are one string
            strings[name] = (ids.dims, entries[which], packed[table].attrs)
    return packed.drop_vars([name for name in PACKED if name in packed.variables]).assign(strings)

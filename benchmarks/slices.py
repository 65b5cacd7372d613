"""Slices of the lazy distances: one layer, head and position, all vocabulary entries; by NumPy and by dask."""

from benchmarks.parts import ready, shapes


class Slices:
    params = (tuple(shapes.BY_NAME), shapes.METRICS)
    param_names = ("shape", "metric")

    def setup(self, name: str, metric: str) -> None:
        self.model, self.encodings = ready.model(name), ready.encodings(name)
        self.lazy = self.model.distances(self.encodings, metric=metric).distance
        self.chunked = self.lazy.chunk(layer=1, head=1, position=1)
        self.time_slice(name, metric)  # makes the tables, and compiles

    def time_first_slice(self, name: str, metric: str) -> None:
        """Of a new Dataset, which is made here too."""
        self.model.distances(self.encodings, metric=metric).distance.isel(layer=1, head=1, position=1).compute()

    def time_slice(self, name: str, metric: str) -> None:
        self.lazy.isel(layer=1, head=1, position=1).compute()

    def time_all_heads(self, name: str, metric: str) -> None:
        self.lazy.isel(layer=1, position=1).compute()

    def time_dask_slice(self, name: str, metric: str) -> None:
        self.chunked.isel(layer=1, head=1, position=1).compute()

    def time_dask_all_heads(self, name: str, metric: str) -> None:
        """A task for each head, on threads."""
        self.chunked.isel(layer=1, position=1).compute()

    def peakmem_slice(self, name: str, metric: str) -> None:
        """The whole process, the model and its tables among it."""
        self.lazy.isel(layer=1, head=1, position=1).compute()

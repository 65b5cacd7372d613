"""Searching the vocabulary for the neighbours of a whole text."""

from dataclasses import replace

import attnxr
from benchmarks.parts import ready, shapes
from benchmarks.parts.products import Products


class Search:
    params = (tuple(shapes.BY_NAME), shapes.METRICS)
    param_names = ("shape", "metric")

    def setup(self, name: str, metric: str) -> None:
        self.model, self.encodings = ready.model(name), ready.encodings(name)
        self.model.neighbors(self.encodings, metric=metric)  # makes the tables, and compiles

    def time_neighbors(self, name: str, metric: str) -> None:
        self.model.neighbors(self.encodings, metric=metric)

    def peakmem_neighbors(self, name: str, metric: str) -> None:
        """The whole process, the model and its tables among it."""
        self.model.neighbors(self.encodings, metric=metric)


class Tokens:
    params = (tuple(shapes.BY_NAME), (1, 14, 56, 224))
    param_names = ("shape", "tokens")

    def setup(self, name: str, tokens: int) -> None:
        shape = replace(shapes.BY_NAME[name], tokens=tokens)
        self.model = ready.model(name)
        self.encodings = shapes.encode(self.model, shape)
        self.model.neighbors(self.encodings.isel(position=[0]))  # makes the tables, and compiles
        self.products = Products(shape)
        self.tiling = self.products.best_tiling(0.3)

    def time_bare_products(self, name: str, tokens: int) -> None:
        """What a search is to be measured against."""
        self.products.run(self.tiling)

    def time_neighbors(self, name: str, tokens: int) -> None:
        self.model.neighbors(self.encodings)

    def peakmem_neighbors(self, name: str, tokens: int) -> None:
        """The whole process, the model and its tables among it."""
        self.model.neighbors(self.encodings)


class Spaces:
    params = tuple(shapes.BY_NAME)
    param_names = ("shape",)

    def setup(self, name: str) -> None:
        self.model: attnxr.Model = ready.model(name)
        token_ids = shapes.token_ids(shapes.BY_NAME[name])
        self.encodings = self.model.encode(token_ids=token_ids, include=["query_vector", "hidden"])
        self.time_own_space(name)
        self.time_keys(name)
        self.time_stream(name)

    def time_own_space(self, name: str) -> None:
        """In each layer's own value space."""
        self.model.neighbors(self.encodings, vocab_layer="same")

    def time_keys(self, name: str) -> None:
        """Queries among the vocabulary's keys."""
        self.model.neighbors(self.encodings, of="query", space="key", metric="dot")

    def time_stream(self, name: str) -> None:
        """The residual stream among the embeddings."""
        self.model.neighbors(self.encodings, of="hidden", space="embedding")

"""What is made once per model: the first search of a new one."""

import torch

import attnxr
from benchmarks.parts import ready, shapes


class Factors:
    params = tuple(shapes.BY_NAME)
    param_names = ("shape",)
    number = 1  # each sample has a new model

    def setup(self, name: str) -> None:
        self.encodings = ready.encodings(name)
        ready.model(name).neighbors(self.encodings)  # compiles
        self.model = attnxr.Model(ready.hf_model(name))
        shape = shapes.BY_NAME[name]
        self.words, self.square = torch.randn(shape.vocabulary, shape.width), torch.randn(shape.width, shape.width)

    def time_bare_product(self, name: str) -> None:
        """One V × D × D product, which the factors are to be measured against."""
        torch.mm(self.words, self.square)

    def time_first_search(self, name: str) -> None:
        """A search and what it needs to be made first; `benchmarks.search` has a later one."""
        self.model.neighbors(self.encodings)

    def peakmem_first_search(self, name: str) -> None:
        """The whole process, two models among it."""
        self.model.neighbors(self.encodings)

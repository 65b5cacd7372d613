"""Looking into a model: loading, forward passes that keep what the heads wrote, and the checks."""

import torch

import attnxr
from benchmarks.parts import ready, shapes


class Capture:
    params = tuple(shapes.BY_NAME)
    param_names = ("shape",)

    def setup(self, name: str) -> None:
        self.hf_model, self.model = ready.hf_model(name), ready.model(name)
        self.token_ids = shapes.token_ids(shapes.BY_NAME[name])

    @torch.inference_mode()
    def time_bare_forward_pass(self, name: str) -> None:
        """What the others are to be measured against."""
        self.hf_model(torch.tensor([self.token_ids]))

    def time_encode(self, name: str) -> None:
        self.model.encode(token_ids=self.token_ids)

    def time_encode_all(self, name: str) -> None:
        self.model.encode(
            token_ids=self.token_ids, include=["query_vector", "key_vector", "value_vector", "residual", "hidden"]
        )

    def time_model(self, name: str) -> None:
        """Looking into a model that is in memory, and checking it."""
        attnxr.Model(self.hf_model)

    def time_verify(self, name: str) -> None:
        self.model.verify()

    def peakmem_encode(self, name: str) -> None:
        """The whole process, the model among it."""
        self.model.encode(token_ids=self.token_ids)

"""What measures are shown, as their kernels take it."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from attnxr.corpus.mixing import INCREMENT, mixed


def on_cpu(attention: Tensor) -> NDArray[np.float32]:
    """Attention as an array that lies as one; what is on another device is copied."""
    return attention.detach().to("cpu", torch.float32).contiguous().numpy()


def hashes(texts: NDArray[np.int64], seed: int) -> NDArray[np.uint64]:
    """A number for each text that looks like chance: SplitMix64 of its number in the corpus and the seed."""
    with np.errstate(over="ignore"):
        x = (texts.astype(np.uint64) + np.uint64(1)) * INCREMENT + np.uint64(seed) * np.uint64(0xD1B54A32D192ED03)
    return mixed(x)

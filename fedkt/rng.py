"""Random streams derived from (seed, purpose, client, round), never from the order of calls.

Every stream is a function of its labels alone, so a client draws the same numbers whichever worker
trains it, after whichever other client, and after a resume. Noise for privacy never comes from here.
"""

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import torch


def seed_of(seed: int, *labels: str | int) -> int:
    """Return a 63-bit integer: the first bytes of SHA-256 over the seed and the labels."""
    text = "\x1f".join([str(seed), *(str(label) for label in labels)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def numpy_stream(seed: int, *labels: str | int) -> "np.random.Generator":
    """Return a fresh NumPy generator for these labels."""
    import numpy as np

    return np.random.default_rng(seed_of(seed, *labels))


def torch_stream(seed: int, *labels: str | int) -> "torch.Generator":
    """Return a fresh CPU torch generator for these labels (torch keeps the low 32 bits of the seed)."""
    import torch

    generator = torch.Generator()
    generator.manual_seed(seed_of(seed, *labels))
    return generator


def raw_stream(seed: int, *labels: str | int) -> "np.random.PCG64":
    """Return a fresh bit generator for these labels.

    NumPy keeps its raw 64-bit numbers the same in every version, which it does not promise of what a
    generator's methods make of them (NEP 19).
    """
    import numpy as np

    return np.random.PCG64(seed_of(seed, *labels))

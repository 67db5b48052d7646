"""Random numbers that nobody can repeat: privacy noise and Poisson sampling come from here only.

A seed in a scenario is known to everyone who has the file, and with it the noise could be computed and taken
off again. Nor would a secret seed do: torch's CPU generator keeps only its low 32 bits.
"""

import os

import numpy as np
import torch

_WORDS = 624
"""Size of MT19937's state, in 32-bit words."""
_FIRST = 3
"""Where they begin in the generator's state, read as 64-bit words; before them are seed, position, flag."""


def generator() -> torch.Generator:
    """Return a fresh CPU generator whose whole state is drawn from the operating system's entropy.

    19 968 bits instead of the 32 that ``manual_seed`` uses. Its seed cannot be predicted, but MT19937 is no
    cryptographic generator: who sees 624 of its raw outputs can compute the rest. Gaussian noise added to
    unknown values does not show them.
    """
    found = torch.Generator()
    state = found.get_state().numpy().view(np.uint64).copy()
    state[_FIRST : _FIRST + _WORDS] = np.frombuffer(os.urandom(4 * _WORDS), np.uint32)
    found.set_state(torch.from_numpy(state.view(np.uint8)))
    return found

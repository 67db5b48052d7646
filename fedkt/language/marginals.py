"""From probabilities of tokens to those of the next byte, at any byte of a text, for any tokenizer.

Let p be a model's distribution over tokens where token t of the text begins, and s the bytes of that token
that have been seen (none at its boundary). The next byte is b with probability

    q(b | s) = sum of p(v) over tokens v that begin with s + b, over the sum over b' of the same.

At a boundary s is empty and this is the plain sum of the probabilities of the tokens that begin with b.
Inside a token it is conditioned on the bytes already seen. Either way q is a distribution over 256 bytes,
whatever the tokenizer; with tokens of single bytes q is p.

By hand: tokens ``a`` .1, ``t`` .2, ``th`` .3, ``the`` .4. At the boundary q(t) = .2 + .3 + .4 = .9, q(a) =
.1. After a seen ``t`` (so that the token is ``th`` or ``the``) q(h) = 1. After ``th`` q(e) = 1.

What it is not. That the token goes on after s is known from the text's own tokens: q inside a token is the
model's belief about the next byte *given that its token does not end here*. Averaged over where tokens end,
that is the model's belief; at one place it is a little surer. So q is for teaching. What a text costs in bits
is measured by its tokens' probabilities, which need no such knowledge (:mod:`fedkt.tasks.language`). The
distribution without that knowledge needs all tokenizations of a prefix: Vieira et al. 2024, "From Language
Models over Tokens to Language Models over Characters", arXiv 2412.03719; Phan et al. 2024, "Exact Byte-Level
Probabilities from Tokenized Language Models", arXiv 2410.09303.

How: tokens are sorted by their bytes. Then all that begin with the same bytes lie side by side, and every sum
above is a difference of two running sums.
"""

from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

OUTSIDE = -1
"""The state of a place that no token can go on from."""
LEAST = 1e-9
"""Least probability that is made of rounded sums."""


class Continuations:
    """Which tokens go on from each beginning of a token.

    A *state* stands for bytes seen of a token; 0 for none. ``edges`` int64 [states, 257]: the tokens that
    begin with a state's bytes and then b stand at ``edges[state, b]`` to ``edges[state, b + 1]`` in
    ``order``.

    >>> known = Continuations([b"a", b"t", b"th", b"the", b""])
    >>> p = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.0])
    >>> places = torch.tensor([known.state(b""), known.state(b"t"), known.state(b"th")])
    >>> q = known.next_byte(p.expand(3, -1), places)
    >>> [round(q[i, b].item(), 3) for i, b in enumerate(b"the")]
    [0.9, 1.0, 1.0]
    """

    def __init__(self, token_bytes: Sequence[bytes]) -> None:
        held = [i for i, token in enumerate(token_bytes) if token]
        held.sort(key=lambda i: token_bytes[i])
        ordered = [token_bytes[i] for i in held]
        self.order = torch.tensor(held)
        self._ordered = ordered
        self.single = bool(ordered) and max(map(len, ordered)) == 1
        """Whether each token is one byte."""
        self._states: dict[bytes, int] = {}
        edges: list[NDArray[np.int64]] = []
        self._spread(ordered, b"", 0, len(ordered), edges)
        self.edges = torch.from_numpy(np.stack(edges))

    def _spread(
        self, ordered: Sequence[bytes], seen: bytes, start: int, stop: int, edges: list[NDArray[np.int64]]
    ) -> None:
        """Note the state ``seen``, of the tokens from ``start`` to ``stop``, and those that go on from it."""
        depth = len(seen)
        while start < stop and len(ordered[start]) == depth:
            start += 1  # the token itself, after which nothing of it is to come
        if start == stop and depth:
            return
        self._states[seen] = len(edges)
        following = np.fromiter((ordered[i][depth] for i in range(start, stop)), np.int64, stop - start)
        bounds = start + np.searchsorted(following, np.arange(257))
        edges.append(bounds)
        for byte, (first, last) in enumerate(pairwise(bounds.tolist())):
            if first < last:
                self._spread(ordered, seen + bytes([byte]), first, last, edges)

    def state(self, seen: bytes) -> int:
        """Return the state of bytes seen of a token, :data:`OUTSIDE` where no token goes on from them."""
        return self._states.get(seen, OUTSIDE)

    def begun(self, held: bytes) -> tuple[int, int]:
        """Return from where to before where in ``order`` the tokens stand that begin with some bytes.

        >>> Continuations([b"the", b"a", b"th", b"t", b""]).begun(b"th")  # a, t, th, the
        (2, 4)
        """
        first = bisect_left(self._ordered, held)
        return first, bisect_left(self._ordered, True, first, key=lambda token: not token.startswith(held))

    def next_byte(self, probabilities: Tensor, states: Tensor) -> Tensor:
        """Return the distribution over the next byte [..., 256], float64.

        ``probabilities`` [..., V] of tokens; ``states`` int64 [...]: what has been seen. Gradients flow
        through.
        """
        return next_byte(running(probabilities, self.order), self.edges[states])

    def beginning(self, probabilities: Tensor, state: int) -> Tensor:
        """Return the sums of the probabilities [V] of tokens that go on from a state, by their next byte
        [256]."""
        return _sums(running(probabilities, self.order), self.edges[state])


def next_byte(sums: Tensor, edges: Tensor) -> Tensor:
    """Return q [..., 256] of :func:`running` sums of token probabilities and the ``edges`` [..., 257] of each
    place; float64, since it is made of differences."""
    found = _sums(sums, edges)
    return found / found.sum(-1, keepdim=True).clamp(min=LEAST)


def running(probabilities: Tensor, order: Tensor) -> Tensor:
    """Return float64 [..., tokens + 1]: the probabilities [..., V] of the first tokens in ``order``."""
    sums = probabilities.index_select(-1, order).cumsum(-1, dtype=torch.float64)
    return torch.nn.functional.pad(sums, (1, 0))


def _sums(running: Tensor, edges: Tensor) -> Tensor:
    at = running.gather(-1, edges)
    return (at[..., 1:] - at[..., :-1]).clamp(min=0)


def places(token_bytes: Sequence[bytes], ids: Sequence[int], known: Continuations) -> NDArray[np.int64]:
    """Return where each byte of a text stands, int64 [bytes, 2]: in which of its tokens, and in which state.

    ``ids``: the text's tokens, without ``start``.

    >>> held = [b"a", b"t", b"th", b"the", b""]
    >>> places(held, [3, 0], Continuations(held)).tolist()  # t, h, e; a
    [[0, 0], [0, 1], [0, 2], [1, 0]]
    """
    found = []
    for number, token in enumerate(ids):
        held = token_bytes[token]
        found += [(number, known.state(held[:seen])) for seen in range(len(held))]
    return np.array(found, np.int64).reshape(-1, 2)

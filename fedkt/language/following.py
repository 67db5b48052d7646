"""The byte that follows a text, as a model with any tokens believes: by it models with other tokens write.

Of a text to be gone on with nobody knows whether its last token is at its end. Let s be that token's bytes, p
the model's distribution over tokens where it begins and p' that over tokens after it. The next byte is b with
probability

    q(b) = sum of p(v) over tokens v that begin with s + b, plus p(s) times the sum of p'(w) over tokens w
    that begin with b; over the sum over b of the same.

The first part is of longer tokens, the second of a token that ends here: the formula of
:mod:`fedkt.language.marginals` where the text says which it is. What is left out are texts cut into other
tokens further back, as in all that looks back over one token ("token healing"); the sum over all ways to cut
is Vieira et al. 2024, arXiv 2412.03719. With tokens of single bytes q is p'.

By hand: tokens ``a`` .1, ``t`` .2, ``th`` .3, ``the`` .4, whatever came before, after the text ``t``. Longer
tokens begin with ``th``: .3 + .4 = .7. A token that ends here, .2, goes on with a by .1 and with t by .9. So
q(h) : q(a) : q(t) = .7 : .02 : .18.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from fedkt.errors import InputError
from fedkt.language.causal import LanguageModel, token_log_probs
from fedkt.language.marginals import OUTSIDE, Continuations

NextByte = Callable[[bytes], Tensor]
"""Returns the distribution [256] over the byte that follows a text."""


def following(model: LanguageModel) -> NextByte:
    """Return what tells a model's distribution over the byte that follows a text, float64 [256].

    Of a text longer than the model reads its end is read. The function raises InputError where the tokenizer
    loses bytes of the text.

    >>> class Some:
    ...     token_bytes, context, start = [b"a", b"t", b"th", b"the", b""], 8, 4
    ...     def encode(self, text):
    ...         return [self.token_bytes.index(text)] if text else []
    ...     def __call__(self, ids):
    ...         return torch.tensor([0.1, 0.2, 0.3, 0.4, 1e-9]).log().expand(*ids.shape, 5)
    >>> q = following(Some())(b"t")
    >>> [round(q[byte].item(), 3) for byte in b"hat"]
    [0.778, 0.022, 0.2]
    """
    known = Continuations(model.token_bytes)

    @torch.no_grad()
    def next_byte(text: bytes) -> Tensor:
        ids = list(model.encode(text))
        if b"".join(model.token_bytes[i] for i in ids) != text:
            raise InputError(f"the text {text[:40]!r} holds bytes that the model's tokenizer loses.")
        read = [model.start, *ids][-model.context :]
        p = token_log_probs(model, torch.tensor([read]))[0, -2:].exp().double()
        begins = known.beginning(p[-1], known.state(b""))
        if not ids or len(read) < 2:
            return begins / begins.sum()
        last = ids[-1]
        found = p[0, last] * begins
        if (state := known.state(model.token_bytes[last])) != OUTSIDE:
            found = found + known.beginning(p[0], state)
        return found / found.sum()

    return next_byte

"""How much of what a small language model learned reaches a larger one that was never trained on it.

    python -m benchmarks.giants [--seeds 0 1 2] [--passages 300] [--tokens 256] [--epochs 3]

A small and a larger decoder read text of four parties; the small one's tokens are bytes, the larger one's
bytes or, with ``--tokens``, byte pairs. The small one then learns the text of a fifth party and becomes an
expert; it stops where 30 passages of it that are set aside cost least. With ``--epochs 0`` so do both models
before that, which then know the four parties as well as they can. The larger one's beliefs about the
next byte are moved by what the expert learned (:mod:`fedkt.distill.shifting`): how far, each byte's beliefs
alone say, so nothing is chosen by what comes out. All are measured on test passages of the fifth party, in
bits of the probability of each byte given those before it (:mod:`fedkt.language.following`: no model is told
where its tokens end). ``kept`` is the moved model's gain over the
expert's, ``closed`` over that of the larger model trained on the fifth party's text itself; ``proxy``: alpha
1 everywhere (proxy tuning).
"""

import argparse
import math
from collections.abc import Sequence
from copy import deepcopy
from statistics import mean, stdev

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from fedkt.data.sets.npz import find_file
from fedkt.distill.shifting import shifted
from fedkt.language.causal import token_log_probs, tokenised
from fedkt.language.following import following
from fedkt.language.marginals import LEAST
from fedkt.models.decoders.bundled import Decoder
from fedkt.rng import numpy_stream, seed_of

DATA = "prose_6parties.npz"
GENERAL, FIFTH = ("drill", "music", "angler", "satire"), "drama"
LENGTH, BATCH, TEST, ASIDE = 160, 16, 40, 30
SMALL = {"tokens": 256, "width": 48, "layers": 1}
LARGE = {"width": 96, "layers": 2}
RATE = 3e-3
MOST = 12
"""Epochs at most where passages set aside say when to stop."""


def texts(party: str, half: str, many: int, seed: int) -> list[bytes]:
    """Return passages of a party, drawn by a seed, cut as a run cuts them."""
    with np.load(find_file(DATA, None)) as held:
        rows = held[f"x_{party}_{half}"]
    chosen = numpy_stream(seed, party, half).permutation(len(rows))[:many]
    return [bytes(rows[i])[:LENGTH] for i in chosen]


def decoder(seed: int, read: Sequence[bytes], *, tokens: int, width: int, layers: int) -> Decoder:
    """Return a new decoder with tokens learned of what it will read."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(seed, "decoder", tokens))
        made = Decoder(tokens, LENGTH + 1, width, layers, 4, (2, 3), 2048, True)
    made.learn(read, ())
    return made


def rows_of(model: Decoder, passages: Sequence[bytes]) -> Tensor:
    """Return the ids [n, t + 1] of passages, ``start`` first, -1 behind the last."""
    ids = [torch.tensor(tokenised(model, text)) for text in passages]
    return torch.nn.utils.rnn.pad_sequence(ids, batch_first=True, padding_value=-1)


def nats(model: Decoder, ids: Tensor) -> Tensor:
    """Return the mean nats per token of ids [n, t + 1]."""
    logits = model(ids[:, :-1].clamp(min=0))
    return F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), ignore_index=-1)


def train(model: Decoder, passages: Sequence[bytes], epochs: int, seed: int) -> Decoder:
    """Train a model on all passages."""
    ids, draw = rows_of(model, passages), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE)
    for _ in range(epochs):
        for some in torch.randperm(len(ids), generator=draw).split(BATCH):
            optimizer.zero_grad()
            batch = ids[some]
            nats(model, batch[:, : int((batch >= 0).sum(1).max())]).backward()
            optimizer.step()
    return model


def tuned(model: Decoder, passages: Sequence[bytes], seed: int, most: int = MOST) -> Decoder:
    """Return a model that learned the passages, after the epoch whose passages set aside cost least."""
    aside, rest = passages[:ASIDE], passages[ASIDE:]
    now = best = deepcopy(model)
    least = float("inf")
    for epoch in range(most):
        now = train(deepcopy(now), rest, 1, seed + epoch)
        with torch.no_grad():
            cost = nats(now, rows_of(now, aside)).item()
        if cost >= least:
            break
        best, least = now, cost
    return best


@torch.no_grad()
def beliefs(model: Decoder, passages: Sequence[bytes]) -> Tensor:
    """Return log-probabilities of the next byte at each byte of all passages [bytes, 256]."""
    if model.tokenizer.merges:
        next_byte = following(model)
        found = torch.stack([next_byte(text[:at]) for text in passages for at in range(len(text))])
    else:  # all bytes of a passage at once
        ids = [torch.tensor([[model.start, *text[:-1]]]) for text in passages]
        found = torch.cat([token_log_probs(model, one)[0, :, :256].exp() for one in ids]).double()
    return found.clamp(min=LEAST).log()


def trial(seed: int, passages: int, tokens: int, epochs: int) -> dict[str, float]:
    """Return what each model costs in bits per byte, and what is kept of the expert's gain."""

    def read(model: Decoder) -> Decoder:
        return train(model, general, epochs, seed) if epochs else tuned(model, mixed, seed, 3 * MOST)

    general = [text for party in GENERAL for text in texts(party, "train", passages, seed)]
    own, test = texts(FIFTH, "train", passages, seed), texts(FIFTH, "test", TEST, seed)
    mixed = [general[i] for i in numpy_stream(seed, "mixed").permutation(len(general))]
    small = read(decoder(seed, general, **SMALL))
    large = read(decoder(seed, general, tokens=tokens, **LARGE))
    models = {"small": small, "expert": tuned(small, own, seed)}
    models |= {"large": large, "trained": tuned(large, own, seed)}
    said = {name: beliefs(model, test) for name, model in models.items()}
    stands = torch.tensor(list(b"".join(test)))
    said["moved"], alpha = shifted(said["large"], said["expert"][None], said["small"])
    said["proxy"] = (said["large"] + said["expert"] - said["small"]).log_softmax(-1)
    found = {
        name: -log_p.gather(1, stands[:, None]).mean().item() / math.log(2) for name, log_p in said.items()
    }
    gain = found["small"] - found["expert"]
    found["alpha"] = alpha.mean().item()
    found["kept"] = (found["large"] - found["moved"]) / gain
    found["kept_proxy"] = (found["large"] - found["proxy"]) / gain
    found["closed"] = (found["large"] - found["moved"]) / (found["large"] - found["trained"])
    return found


def main() -> None:
    """Print a line for each figure, its mean and spread over seeds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--passages", type=int, default=300)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--epochs", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(1)
    found = [trial(seed, given.passages, given.tokens, given.epochs) for seed in given.seeds]
    for name in found[0]:
        values = [one[name] for one in found]
        spread = stdev(values) if len(values) > 1 else 0.0
        print(f"{name:12} {mean(values):.3f} ± {spread:.3f}   {' '.join(f'{v:.3f}' for v in values)}")


if __name__ == "__main__":
    main()

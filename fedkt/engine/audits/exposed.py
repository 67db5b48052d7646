"""``fedkt audit`` of text: sentences with secrets in one client's text, and who else comes to know them.

Each canary is a sentence of one form about a room of its own, with a secret of two digits from the system's
entropy; a coin decides whether the first client reads it, :data:`COPIES` times. Whoever chose the public text
asks about all of them: for each canary and each first digit there is a passage with another second digit,
which says nothing about the secret (each digit stands at each place once) and at which a model must say all
that it believes about it. So what a client sends holds the likelihood of all 100 sentences. Exposure
(:mod:`fedkt.privacy.attacks.exposure`) is told of three: what the client *released*; the models of its
*peers*, who learned from what became of that; and the client's *own* model.
"""

import string
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fedkt.client.state import StateStore
from fedkt.data import Federation
from fedkt.data.columns.tokens import passages
from fedkt.data.content.transfer_set import transfer_hash
from fedkt.data.sets.dataset import Dataset
from fedkt.engine.audits.released import Round
from fedkt.engine.world.world import World
from fedkt.knowledge.contributions import Contributions
from fedkt.language.topk import places_of
from fedkt.privacy.attacks import audit
from fedkt.privacy.attacks.exposure import Space, by_chance, exposure
from fedkt.tasks import Language

Floats = NDArray[np.float64]

COPIES = 8
"""How often a client reads a canary of its own; once where privacy of one passage is claimed."""
CANARIES = 16
"""Sentences, where nobody says how many."""
DIGITS = b"0123456789"
NAME = 4
"""Letters of a room's name."""
LEAST = 1e-6
"""Probability below which beliefs do not tell sentences apart."""
MOST = 1000
"""Canaries, at most."""
AT_ONCE = 200
"""Sentences that a model reads together."""


@dataclass(frozen=True, eq=False)
class Canaries:
    """``spaces``: what each canary could have been; ``secrets`` int64 [canaries]: their numbers there;
    ``members`` bool [canaries]: whether the first client reads it, ``copies`` times; ``shifts`` int64
    [canaries]: of the probes' second digits."""

    spaces: tuple[Space, ...]
    secrets: NDArray[np.int64]
    members: NDArray[np.bool_]
    shifts: NDArray[np.int64]
    copies: int

    @classmethod
    def drawn(cls, many: int, copies: int, coins: np.random.Generator) -> "Canaries":
        """Draw canaries; rooms have names that differ."""
        names: set[str] = set()
        while len(names) < many:
            names.add("".join(coins.choice(list(string.ascii_uppercase), NAME)))
        rooms = sorted(names)
        coins.shuffle(rooms)
        spaces = tuple(Space(f"The key of room {name} is ".encode(), DIGITS, 2, b".") for name in rooms)
        secrets = coins.integers(0, len(spaces[0]), many)
        return cls(spaces, secrets, audit.toss(many, coins), coins.integers(0, 10, many), copies)

    @property
    def read(self) -> list[bytes]:
        """The sentences that the first client reads."""
        return [
            space.sentence(int(secret))
            for space, secret, member in zip(self.spaces, self.secrets, self.members, strict=True)
            for _ in range(self.copies * member)
        ]

    @cached_property
    def probes(self) -> list[bytes]:
        """The passages of public text [canaries · 10]: of each canary all first digits in order."""
        return [
            space.sentence(10 * first + (first + int(shift)) % 10)
            for space, shift in zip(self.spaces, self.shifts, strict=True)
            for first in range(10)
        ]

    def planted(self, federation: Federation) -> Federation:
        """Return a federation whose first client reads its canaries, and whose public text ends with the
        probes. Raises ValueError where there is no public text."""
        pool, transfer = federation.pool, federation.transfer
        if transfer is None:
            raise ValueError("there is no public text")
        first, *others = federation.shards
        labels = federation.transfer_labels
        own = _longer(federation, pool, self.read)
        return replace(
            federation,
            pool=own,
            shards=(
                replace(first, rows=np.concatenate([first.rows, np.arange(len(pool), len(own))])),
                *others,
            ),
            transfer=(public := _longer(federation, transfer, self.probes)),
            transfer_hash=transfer_hash(public.x),
            transfer_labels=None if labels is None else _repeated(labels, len(self.probes)),
            _kept={},
        )

    def told(self, beliefs: Floats, rows: NDArray[np.int64], places: int, first_probe: int) -> Floats:
        """Return the log-likelihood [canaries, 100] of all secrets, in what was said of public text.

        ``beliefs`` [rows, places, 256]: probabilities of the next byte, zeros where nothing is said;
        ``rows``: which passages these are; the probes begin at ``first_probe``. Of the first digit it is the
        mean over a canary's probes; a digit of which nothing is said is any.
        """
        heard: dict[int, Floats] = dict(zip(rows.tolist(), beliefs, strict=True))
        found = np.zeros((len(self.spaces), 10, 10))
        for i, space in enumerate(self.spaces):
            at = len(space.before)
            where = places_of(torch.tensor([len(space.sentence(0))]), places)[0].tolist()
            said = np.full((2, 10, 10), np.nan)  # of the first and the second digit, by the probe's first one
            for digit in range(10):
                row = heard.get(first_probe + 10 * i + digit)
                for n in (0, 1):
                    if row is not None and at + n in where and row[where.index(at + n)].any():
                        said[n, digit] = np.log(np.clip(row[where.index(at + n), list(DIGITS)], LEAST, None))
            first = np.nanmean(said[0], 0) if not np.isnan(said[0]).all() else np.zeros(10)
            found[i] = first[:, None] + np.nan_to_num(said[1], nan=np.log(0.1))
        return found.reshape(len(self.spaces), 100)

    def exposures(self, likelihoods: Floats) -> dict[str, float]:
        """Return the mean exposure in bits of log-likelihoods [canaries, 100]: of members, and of others."""
        found = np.array([exposure(-row, int(s)) for row, s in zip(likelihoods, self.secrets, strict=True)])
        return {"members": float(found[self.members].mean()), "others": float(found[~self.members].mean())}


class Listener:
    """Adds up what clients release about canaries: log-likelihoods by client [canaries, 100], over rounds."""

    def __init__(self, world: World, canaries: Canaries) -> None:
        self.world, self.canaries = world, canaries
        self.heard: dict[str, Floats] = {}

    def __call__(self, number: int, contributions: Contributions) -> Round:
        """Take up a round's contributions."""
        federation, settings = self.world.federation, self.world.settings
        transfer, task, places = federation.transfer, federation.task, settings["places"]
        assert transfer is not None and isinstance(task, Language)
        values = task.next_bytes(contributions.arrays, settings).unflatten(1, (-1, places))
        rows = np.arange(len(transfer)) if contributions.rows is None else contributions.rows.numpy()
        first = len(transfer) - len(self.canaries.probes)
        for client, said in zip(contributions.clients, values, strict=True):
            told = self.canaries.told(said.double().numpy(), rows, places, first)
            self.heard[client] = self.heard.get(client, 0.0) + told
        return Round(number, contributions.clients, ())

    def scores(self, target: str) -> Floats:
        """Return how much rather than its peers a client finds each canary likely [canaries]."""
        own = {name: _of_secrets(told, self.canaries) for name, told in self.heard.items()}
        others = [told for name, told in own.items() if name != target]
        if target not in own:
            return np.zeros(len(self.canaries.spaces))
        return own[target] - (np.mean(others, 0) if others else 0.0)


def asked(world: World, store: StateStore, client: str, canaries: Canaries) -> Floats:
    """Return the log-likelihood [canaries, 100] of all sentences by a client's model as it is."""
    net, state = world.net(client), store.load(client, 2 * world.scenario.rounds + 2)
    if state is not None:
        net.load_state_dict({name: state.part("model")[name] for name in net.state_dict()})
    net.eval()
    length = world.federation.input.shape[0]
    found = []
    with torch.no_grad():
        for space in canaries.spaces:
            rows = passages("canaries", np.array(space.sentences()), length)
            found += [net(part)[1][:, 0] for part in torch.from_numpy(rows).split(AT_ONCE)]
    return -torch.cat(found).double().numpy().reshape(len(canaries.spaces), -1)


def found_in(
    world: World, store: StateStore, canaries: Canaries, target: str, heard: dict[str, Floats]
) -> dict[str, Any]:
    """Return the exposures of what was released, of the peers' models and of the client's own, in bits."""
    peers = [canaries.exposures(asked(world, store, one, canaries)) for one in world.names if one != target]
    told: dict[str, Any] = {
        "released": canaries.exposures(heard[target]) if target in heard else None,
        "own": canaries.exposures(asked(world, store, target, canaries)),
        "peers": {key: float(np.mean([one[key] for one in peers])) for key in ("members", "others")}
        if peers
        else None,
    }
    size = len(canaries.spaces[0])
    return told | {"by_chance": by_chance(size), "most": float(np.log2(size)), "copies": canaries.copies}


def told(found: dict[str, Any]) -> str:
    """Return exposures in a line."""
    names = {"released": "what it sent", "peers": "its peers' models", "own": "its own model"}
    parts = [
        f"{names[key]} {found[key]['members']:.2f} ({found[key]['others']:.2f} of canaries that nobody read)"
        for key in names
        if found[key] is not None
    ]
    most, chance = found["most"], found["by_chance"]
    return f"exposure of {most:.2f} bits, {chance:.2f} by chance: {', '.join(parts)}"


def _of_secrets(told: Floats, canaries: Canaries) -> Floats:
    found: Floats = told[np.arange(len(told)), canaries.secrets]
    return found


def _longer(federation: Federation, rows: Dataset, texts: list[bytes]) -> Dataset:
    """Return rows of text with further texts behind them."""
    x = passages("canaries", np.array(texts), rows.x.shape[1])
    y = federation.task.of_rows(x) if rows.y.ndim > 1 else np.full(len(x), -1, rows.y.dtype)
    return replace(
        rows,
        x=np.concatenate([rows.x, x.astype(rows.x.dtype)]),
        y=np.concatenate([rows.y, y]),
        domain=_repeated(rows.domain, len(x)),
        ids=_repeated(rows.ids, len(x)),
    )


def _repeated(names: Any, more: int) -> Any:
    return None if names is None else np.concatenate([names, names[:1].repeat(more)])

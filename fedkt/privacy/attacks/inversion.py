"""Label-only inversion: what a model's classes look like to who may ask it for labels alone.

LOKT (Nguyen, Chandrasegaran, Abdollahzadeh, Cheung, NeurIPS 2023, "Label-Only Model Inversion Attacks via
Knowledge Transfer", arXiv 2310.19342): a conditional GAN learns what public images look like; the attacked
model labels what it generates, and these labels train a classifier of the attacker's own, which then is
inverted with gradients. What differs here: dense networks, since images are small; one surrogate, the class
head of the discriminator, where the paper also has an ensemble of three.

The outcome is a picture and three shares, results of one attack; they bound nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Ask = Callable[[Tensor], Tensor]
"""Labels [n] of images [n, channels, height, width]: all that the attacked model says."""

LATENT = 32
STEPS, BATCH, RATE = 3000, 64, 5e-4
BETAS = (0.5, 0.999)
"""Of Adam, as in DCGAN (Radford et al. 2016, arXiv 1511.06434)."""
STARTS, SEARCH, PULL = 64, 20, 0.02
"""Latent points that are tried per class, steps of the search from each (more finds what only the surrogate
believes in), its rate."""
SHOWN = 3
"""Images kept per class."""


class Generator(nn.Module):
    """Images of classes from latent points, within the range of the public ones."""

    def __init__(self, public: Tensor, classes: int) -> None:
        super().__init__()
        self._shape = public.shape[1:]
        self._low, self._range = float(public.min()), float(public.max() - public.min()) or 1.0
        self.named = nn.Embedding(classes, LATENT)
        self.body = nn.Sequential(
            nn.Linear(2 * LATENT, 128),
            nn.LeakyReLU(0.2),
            nn.Linear(128, 256),
            nn.LeakyReLU(0.2),
            nn.Linear(256, self._shape.numel()),
        )

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        """Return images for latent points [n, LATENT] and classes [n]."""
        out: Tensor = self.body(torch.cat([z, self.named(y)], 1)).sigmoid()
        return self._low + self._range * out.view(-1, *self._shape)


class Surrogate(nn.Module):
    """The attacker's own classifier, which also tells public images from generated ones."""

    def __init__(self, public: Tensor, classes: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Flatten(),
            nn.Linear(public[0].numel(), 256),
            nn.LeakyReLU(0.2),
            nn.Dropout(0.3),
            nn.Linear(256, 128),
            nn.LeakyReLU(0.2),
        )
        self.real, self.label = nn.Linear(128, 1), nn.Linear(128, classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return how real images are [n], as log-odds, and the logits of their classes [n, classes]."""
        z = self.body(x)
        return self.real(z).squeeze(-1), self.label(z)


@dataclass(frozen=True)
class Reconstruction:
    """``images``: [classes, SHOWN, channels, height, width], best first; ``questions``: labels asked for."""

    images: Tensor
    questions: int


def invert(public: Tensor, ask: Ask, classes: int, *, seed: int, steps: int = STEPS) -> Reconstruction:
    """Reconstruct what each class looks like from public images [n, channels, height, width] and labels.

    The seed fixes the attack, not the attacked model.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        generator, surrogate = Generator(public, classes), Surrogate(public, classes)
        makes = torch.optim.Adam(generator.parameters(), lr=RATE, betas=BETAS)
        judges = torch.optim.Adam(surrogate.parameters(), lr=RATE, betas=BETAS)
        for _ in range(steps):
            z, y = torch.randn(BATCH, LATENT), torch.randint(classes, (BATCH,))
            made = generator(z, y)
            told = ask(made.detach())
            real, _ = surrogate(public[torch.randint(len(public), (BATCH,))])
            fake, labels = surrogate(made.detach())
            judged = F.softplus(-real).mean() + F.softplus(fake).mean() + F.cross_entropy(labels, told)
            judges.zero_grad()
            judged.backward()
            judges.step()
            fake, labels = surrogate(made)
            missed = F.softplus(-fake).mean() + F.cross_entropy(labels, y)
            makes.zero_grad()
            missed.backward()
            makes.step()
        surrogate.eval()
        images = torch.stack([_search(generator, surrogate, label) for label in range(classes)])
    return Reconstruction(images, steps * BATCH)


def _search(generator: Generator, surrogate: Surrogate, label: int) -> Tensor:
    """Return the latent search's best images of a class [SHOWN, ...], by the surrogate."""
    y = torch.full((STARTS,), label)
    z = torch.randn(STARTS, LATENT, requires_grad=True)
    pulls = torch.optim.Adam([z], lr=PULL)
    for _ in range(SEARCH):
        loss = _doubt(surrogate, generator(z, y), y).sum() + 0.5 * z.square().mean(1).sum()
        pulls.zero_grad()
        loss.backward()
        pulls.step()
    with torch.no_grad():
        images: Tensor = generator(z, y)
        return images[_doubt(surrogate, images, y).argsort()[:SHOWN]]


def _doubt(surrogate: Surrogate, images: Tensor, y: Tensor) -> Tensor:
    """Return how little the surrogate believes in each image as a real one of its class."""
    real, labels = surrogate(images)
    return F.cross_entropy(labels, y, reduction="none") + F.softplus(-real)


# How good it is ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Likeness:
    """Shares in [0, 1] over the classes that the attacked client holds.

    ``recognised``: reconstructions that a classifier of the evaluator's, trained on rows that nobody else
    has, puts into their class; ``nearest_mean``: whose nearest class mean of the client's rows is their own;
    by guessing, both are one over the number of classes. ``nearer_to_members``: which are nearer to a row of
    the client than to any of as many rows of their class that it never saw; 0.5 shows nothing of single rows.
    """

    recognised: float
    nearest_mean: float
    nearer_to_members: float
    classes: int


def likeness(
    images: Tensor, own: tuple[Tensor, Tensor], unseen: tuple[Tensor, Tensor], *, seed: int
) -> Likeness:
    """Judge reconstructions [classes, n, ...] by the client's rows and rows that it never saw."""
    (x, y), (other_x, other_y) = own, unseen
    held = [label for label in range(len(images)) if bool((y == label).any())]
    means = torch.stack([x[y == label].mean(0) for label in held])
    flat = images[held].flatten(2)
    labels = torch.tensor(held).repeat_interleave(images.shape[1])
    nearest = torch.cdist(flat.flatten(0, 1), means.flatten(1)).argmin(1)
    nearer = []
    for place, label in enumerate(held):
        mine, theirs = x[y == label].flatten(1), other_x[other_y == label].flatten(1)
        count = min(len(mine), len(theirs))
        if count:
            gaps = [torch.cdist(flat[place], rows[:count]).amin(1) for rows in (mine, theirs)]
            nearer.append((gaps[0] < gaps[1]).float().mean())
    told = _evaluator(other_x, other_y, len(images), seed)(images[held].flatten(0, 1))
    return Likeness(
        recognised=float((told == labels).float().mean()),
        nearest_mean=float((torch.tensor(held)[nearest] == labels).float().mean()),
        nearer_to_members=float(torch.stack(nearer).mean()) if nearer else 0.5,
        classes=len(held),
    )


def _evaluator(x: Tensor, y: Tensor, classes: int, seed: int) -> Ask:
    """Train a classifier of its own, which the attacker does not have."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = nn.Sequential(
            nn.Flatten(), nn.Linear(x[0].numel(), 128), nn.ReLU(), nn.Dropout(0.3), nn.Linear(128, classes)
        )
        optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
        for _ in range(600):
            rows = torch.randint(len(x), (BATCH,))
            optimizer.zero_grad()
            F.cross_entropy(net(x[rows]), y[rows]).backward()
            optimizer.step()
    net.eval()
    return lambda images: net(images).argmax(1)

"""A rehearsal of private training on made rows: what fails, fails before a ledger has paid.

Nothing private is in it: rows and labels are drawn at random in the shape that the data have.
"""

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from fedkt.client.behaviour import Holding
from fedkt.data.sets.dataset import InputSpec
from fedkt.engine.world.world import World
from fedkt.models.net import Net
from fedkt.privacy.dpsgd import Dpsgd, fit_privately
from fedkt.rng import torch_stream

ROWS = 4


def rehearsed(world: World) -> Iterator[str]:
    """Train one private step of each architecture on made rows; yield why one fails, in sentences."""
    if world.mode is None or world.mode.training_noise(1.0) is None:
        return
    seen = set()
    for client in world.shards:
        key = world.architecture(client)
        if key in seen:
            continue
        seen.add(key)
        if why := _rehearse(world, client):
            yield f"model '{world.models[client][0]}' cannot be trained privately: {why}."


def _rehearse(world: World, client: str) -> str | None:
    held = _made(world.holding(client), world.federation.input, world.federation.classes)
    how = Dpsgd(1.0, world.scenario.privacy.max_grad_norm)
    for phase in [p for part in world.private_phases(client, held) for p in part]:
        net = world.net(client)
        if (what := _changed_by_looking(net, held.x)) is not None:
            return (
                f"'{what}' changes when rows are merely looked at, so it tells of them without noise; use a "
                "layer without such a memory"
            )
        try:
            one = replace(phase, steps=replace(phase.steps, batches=1, batch_size=phase.size))
            fit_privately(net, one, {}, how, seed=world.scenario.seed, client=client, round_=0)
        except Exception as error:  # whatever it is, the first private round would end with it
            text = " ".join(str(error).split()).rstrip(".")
            return f"a step on made rows ends in {type(error).__name__}{': ' if text else ''}{text}"
    return None


def _made(holding: Holding, input_: InputSpec, classes: int) -> Holding:
    """Return the holding with made rows in place of the private ones."""
    stream = torch_stream(holding.seed, "rehearsal")
    shape = (ROWS, *holding.x.shape[1:])
    if holding.x.is_floating_point():
        x: Tensor = torch.randn(shape, generator=stream)
    else:
        x = torch.randint(0, max(input_.vocabulary, 1), shape, generator=stream)
        x[:, -1:] = 0  # padding
    y = torch.arange(ROWS) % classes
    share = torch.full_like(holding.label_share, 1 / classes)
    device = holding.x.device
    return replace(holding, x=x.to(device, holding.x.dtype), y=y.to(device), label_share=share)


@torch.no_grad()
def _changed_by_looking(net: Net, x: Tensor) -> str | None:
    """Return the name of a tensor that a forward pass changes: statistics, or a table that is rescaled."""
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    net.train()
    try:
        net(x)
    except Exception:
        return None  # the step that follows says what is wrong
    return next((n for n, t in net.state_dict().items() if not torch.equal(t, before[n])), None)

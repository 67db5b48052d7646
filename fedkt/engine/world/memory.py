"""How much memory there is, and how much the clients of a scenario take: estimates in bytes."""

import ctypes
import os
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from fedkt.client.behaviour import Steps
from fedkt.scenario import Engine

FLOAT = 4
SLOTS = {"sgd": 1, "adam": 2, "adamw": 2}
"""Tensors of the model's size that an optimiser keeps at most."""
SHARE = 0.5
"""Share of the free memory that cohorts are planned for: the rest is for data, states and others."""
RECENT = 64 * 2**20
"""Bytes of clients' own rows that a process keeps ready: others are cut from the data when asked for."""
_KEPT = 256 * 2**20
"""Freed bytes that a training process keeps for its next step."""
_LARGEST = 32 * 2**20
"""Largest block that the C library takes from them; it allows no larger value."""
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_GROUP = Path("/sys/fs/cgroup")
_MACHINE = Path("/proc/meminfo")

T = TypeVar("T")


class Recent(Generic[T]):
    """What was made last, of at most ``limit`` bytes together; it stays behind when pickled."""

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._held: OrderedDict[str, tuple[T, int]] = OrderedDict()
        self._bytes = 0

    def get(self, key: str, make: Callable[[], T], size: Callable[[T], int]) -> T:
        """Return what there is under a key, made now where it is not there (any more)."""
        if key in self._held:
            self._held.move_to_end(key)
            return self._held[key][0]
        made = make()
        self._held[key] = made, size(made)
        self._bytes += self._held[key][1]
        while self._bytes > self._limit:
            self._bytes -= self._held.popitem(last=False)[1][1]
        return made

    def __reduce__(self) -> tuple[type["Recent[T]"], tuple[float]]:
        return type(self), (self._limit,)


def keep_freed() -> None:
    """Let this process keep some of the memory that it frees, where the C library is GNU's.

    By default glibc gives blocks of a few megabytes back to the system and fetches them again in the next
    step of training: 2300 page faults per client and epoch of a small CNN, which doubled its time.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGEST)
        libc.mallopt(_M_TRIM_THRESHOLD, _KEPT)


def free(device: torch.device) -> int:
    """Return the free memory of the device; for the CPU that of the machine, within a container's limit."""
    if device.type in ("cuda", "xpu"):
        return int(torch.accelerator.get_memory_info(device)[0])  # on Apple's GPUs it is the machine's
    there = total()
    if _MACHINE.exists():
        fields = dict(line.split(":", 1) for line in _MACHINE.read_text().splitlines())
        there = min(there, 1024 * int(fields["MemAvailable"].split()[0]))
    used = _number(_GROUP / "memory.current")
    return there if used is None else min(there, max(0, total() - used))


def whole(device: torch.device) -> int:
    """Return all memory of the device; for the CPU the machine's, or a container's limit."""
    if device.type in ("cuda", "xpu"):
        return int(torch.accelerator.get_memory_info(device)[1])
    return total()


def total() -> int:
    """Return the machine's memory, or a container's limit."""
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = _number(_GROUP / "memory.max")
    return there if limit is None else min(there, limit)


def _number(path: Path) -> int | None:
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdecimal() else None


def parameters(net: nn.Module) -> int:
    """Return the bytes of a model's tensors."""
    return sum(t.numel() * t.element_size() for t in net.state_dict().values())


def state(net: nn.Module, phases: "tuple[Steps, ...]") -> int:
    """Return the bytes that a client keeps between rounds: its model, and an optimiser's state per phase."""
    return parameters(net) * (1 + sum(SLOTS[steps.optimizer] for steps in phases))


def activations(net: nn.Module, row: Tensor) -> int:
    """Return the bytes that the layers put out for one row, ``row`` [1, ...]."""
    seen = 0

    def count(_: nn.Module, __: object, out: object) -> None:
        nonlocal seen
        if isinstance(out, Tensor):
            seen += out.numel() * out.element_size()

    leaves = [module for module in net.modules() if not list(module.children())]
    hooks = [module.register_forward_hook(count) for module in leaves]
    try:
        with torch.no_grad():
            net.eval()(row)
    finally:
        for hook in hooks:
            hook.remove()
    return seen


def training(net: nn.Module, row: Tensor, steps: Steps, *, by_row: bool = False) -> int:
    """Return the bytes that one client takes while it trains: three sets of activations, for what is kept,
    its gradient and what is in work, and the model with its gradient, a copy and the optimiser's state;
    ``by_row``: also a gradient for every row, twice."""
    rows = 2 * steps.batch_size * parameters(net) if by_row else 0
    return (
        rows + 3 * steps.batch_size * activations(net, row) + parameters(net) * (3 + SLOTS[steps.optimizer])
    )


def for_states(engine: Engine) -> int:
    """Return the bytes that clients' states may take on this machine: a quarter of it unless it is set."""
    return total() // 4 if engine.memory_limit is None else size_of(engine.memory_limit)


def size_of(text: str) -> int:
    """Return the bytes of a size such as ``4GiB``."""
    number, unit = text[:-3], text[-3:]
    return int(float(number) * 1024 ** ("KMGT".index(unit[0]) + 1))

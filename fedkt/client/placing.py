"""Tensors between the CPU and an accelerator, many in one copy: each copy costs more than what it carries."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

Values = Tensor | NDArray[Any]
_ALIGNED = 16
"""Each tensor begins at a multiple of so many bytes in the buffer that is copied."""


def placed(
    parts: Sequence[Mapping[str, Values]], device: torch.device, stay: Collection[str] = ()
) -> list[dict[str, Tensor]]:
    """Return all arrays of all parts as tensors on the device, moved in one copy; some ``stay`` on the CPU.

    On the CPU they are copied where they are read-only, and else stay where they are.
    """
    if device.type == "cpu":
        return [{name: _tensor(array) for name, array in part.items()} for part in parts]
    there: list[dict[str, Tensor]] = [{} for _ in parts]
    leaving: list[tuple[int, str, Tensor]] = []
    for i, part in enumerate(parts):
        for name, array in part.items():
            tensor = _tensor(array)
            if tensor.device.type == device.type or name in stay:
                there[i][name] = tensor
            else:
                leaving.append((i, name, tensor))
    if leaving:
        buffer, starts = _packed([tensor for *_, tensor in leaving])
        moved = buffer.to(device, non_blocking=True)
        for (i, name, tensor), start in zip(leaving, starts, strict=True):
            there[i][name] = _cut(moved, start, tensor)
    return [{name: found[name] for name in part} for part, found in zip(parts, there, strict=True)]


def placed_state(
    tensors: Mapping[str, Tensor], device: torch.device, stay: Collection[str] = ()
) -> dict[str, Tensor]:
    """Bring a client's state to the device, but for what is read on the CPU: its optimisers' steps, and what
    is to ``stay`` of its teacher."""
    read = {f"teacher/{name}" for name in stay}
    return placed([tensors], device, read | {name for name in tensors if name.endswith("/step")})[0]


def fetched(parts: Sequence[Mapping[str, Tensor]]) -> list[dict[str, Tensor]]:
    """Return all tensors of all parts on the CPU, moved in one copy; those that are there stay."""
    return _unpacked(parts, lambda buffer: buffer.cpu)()


def leaving(parts: Sequence[Mapping[str, Tensor]]) -> Callable[[], list[dict[str, Tensor]]]:
    """Begin to do as :func:`fetched`; return what waits for the tensors, to be called from any thread.

    On CUDA the copy goes to pinned memory, beside whatever the device computes next; elsewhere it is made
    in the thread that waits for it.
    """
    return _unpacked(parts, _pinned)


def _unpacked(
    parts: Sequence[Mapping[str, Tensor]], move: Callable[[Tensor], Callable[[], Tensor]]
) -> Callable[[], list[dict[str, Tensor]]]:
    here = [{name: _bare(tensor) for name, tensor in part.items()} for part in parts]
    away = [(part, name, t) for part in here for name, t in part.items() if t.device.type != "cpu"]
    if not away:
        return lambda: here
    buffer, starts = _packed([tensor for *_, tensor in away])
    arrive = move(buffer)

    def wait() -> list[dict[str, Tensor]]:
        moved = arrive()
        for (part, name, tensor), start in zip(away, starts, strict=True):
            # A copy, so that the buffer does not live as long as the smallest part of it.
            part[name] = _cut(moved, start, tensor).clone()
        return here

    return wait


def _pinned(buffer: Tensor) -> Callable[[], Tensor]:
    if buffer.device.type != "cuda":
        return buffer.cpu
    held = torch.empty_like(buffer, device="cpu", pin_memory=True).copy_(buffer, non_blocking=True)
    ended = torch.cuda.Event()
    ended.record()

    def wait() -> Tensor:
        ended.synchronize()
        return held

    return wait


def _bare(tensor: Tensor) -> Tensor:
    return tensor.detach() if tensor.requires_grad else tensor


def _tensor(array: Values) -> Tensor:
    if isinstance(array, Tensor):
        return _bare(array)
    return torch.from_numpy(array if array.flags.writeable else array.copy())


def _packed(tensors: Sequence[Tensor]) -> tuple[Tensor, list[int]]:
    """Return the bytes of tensors of one device behind each other, and where each begins."""
    pieces, starts, at = [], [], 0
    for tensor in tensors:
        piece = tensor.contiguous().reshape(-1).view(torch.uint8)
        starts.append(at)
        filler = -piece.numel() % _ALIGNED
        pieces.append(torch.nn.functional.pad(piece, (0, filler)) if filler else piece)
        at += piece.numel() + filler
    return torch.cat(pieces), starts


def _cut(buffer: Tensor, start: int, like: Tensor) -> Tensor:
    size = like.numel() * like.element_size()
    return buffer[start : start + size].view(like.dtype).view(like.shape)


def outgoing(tensor: Tensor) -> Any:
    """Return what a behaviour puts into its knowledge: an array on the CPU, else the tensor itself.

    The engine brings the tensors of a whole cohort to the CPU in one copy.
    """
    return tensor.detach().numpy() if tensor.device.type == "cpu" else tensor.detach()

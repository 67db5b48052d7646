"""An accelerator that is not there, for tests: the CPU's values, an accelerator's rules about devices.

``with Accelerator() as gpu`` makes ``torch.device("pretended")`` usable. A tensor on it wraps one on the CPU;
every operation passes through :meth:`Accelerator.carry_out`, which refuses operands of two devices and counts
kernels, copies in either direction and waits (whenever the CPU needs a value and would have to stand still);
those of other threads than the main one, which nobody waits for, by themselves (``... aside``).
It says nothing of speed, memory or streams.
"""

import threading
from collections import Counter
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "pretended"
_setup_privateuseone_for_python_backend(NAME)
DEVICE = torch.device(NAME, 0)

# Neither reads nor writes values: shapes, views, memory.
FREE = {
    *(
        "view",
        "_unsafe_view",
        "t",
        "transpose",
        "permute",
        "expand",
        "slice",
        "select",
        "unsqueeze",
        "squeeze",
    ),
    *("detach", "alias", "as_strided", "split", "unbind", "reshape", "_reshape_alias", "chunk", "narrow"),
    *("split_with_sizes", "diagonal", "movedim", "unfold", "lift_fresh", "is_same_size"),
    *("empty", "empty_like", "new_empty", "empty_strided", "new_empty_strided"),
}
# Take indices from the CPU, at the price of a copy.
INDEXED = {"index", "index_put", "index_put_", "_unsafe_index", "_index_put_impl_"}
# The size of what comes out depends on values, so the CPU waits for it.
SIZED_BY_VALUES = frozenset(
    ["nonzero", "masked_select", "unique", "unique_consecutive", "_unique2", "bincount"]
)


class There(torch.Tensor):
    """A tensor that lies on the accelerator; ``held`` has its values."""

    held: torch.Tensor

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> "There":
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            layout=held.layout,
            device=DEVICE,
        )
        made.held = held
        return made

    def __repr__(self) -> str:  # type: ignore[override]
        return f"There({self.held!r})"

    def tolist(self) -> Any:
        return self.cpu().tolist()

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if Accelerator.open is None:
            raise RuntimeError(f"{func}: a tensor of the accelerator is used after it was closed")
        return Accelerator.open.carry_out(func, args, kwargs or {})


class Accelerator(TorchDispatchMode):
    """While it is open the device is there; ``counts``: what happened on it."""

    open: "Accelerator | None" = None

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __enter__(self) -> "Accelerator":
        Accelerator.open = self
        super().__enter__()
        return self

    def __exit__(self, *ended: Any) -> None:
        super().__exit__(*ended)
        Accelerator.open = None

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self.carry_out(func, args, kwargs or {})

    def carry_out(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """Do one operation of ATen where its operands lie, or refuse it."""
        name = func._schema.name.removeprefix("aten::")
        tensors = [t for t in tree_flatten((args, kwargs))[0] if isinstance(t, torch.Tensor)]
        there = [t for t in tensors if isinstance(t, There)]
        target = kwargs.get("device")
        made_there = target is not None and torch.device(target).type == NAME
        if name in ("_to_copy", "copy_"):
            return self._copied(name, func, args, kwargs, target, made_there)
        if not there and not made_there:
            return func(*args, **kwargs)
        here = [t for t in tensors if not isinstance(t, There) and t.dim() > 0]
        if there and here:
            if name not in INDEXED or not isinstance(args[0], There):
                raise RuntimeError(f"{func}: operands of two devices ({len(here)} on the CPU)")
            for index in here:
                self._crossed("to", index)
        masked = name in INDEXED and any(t.dtype in (torch.bool, torch.uint8) for t in there[1:])
        if name == "_local_scalar_dense" or name in SIZED_BY_VALUES or masked:
            self._note("waits")
        elif name not in FREE:
            self.counts["kernels"] += 1
        inner = _inner(kwargs) | ({"device": torch.device("cpu")} if made_there else {})
        inner.pop("pin_memory", None)
        out = func(*_inner(args), **inner)
        same = {id(t.held): t for t in there}  # what works in place returns its operand
        return tree_map(lambda t: _wrapped(t, same), out)

    def _copied(
        self, name: str, func: Any, args: Any, kwargs: dict[str, Any], target: Any, made_there: bool
    ) -> Any:
        source = args[0] if name == "_to_copy" else args[1]
        from_there = isinstance(source, There)
        to_there = isinstance(args[0], There) if name == "copy_" or target is None else made_there
        if from_there != to_there:
            self._crossed("to" if to_there else "from", source)
            if not to_there:
                self._note("waits")
        elif to_there:
            self.counts["kernels"] += 1
        inner = _inner(kwargs)
        if "device" in inner:
            inner = {**inner, "device": torch.device("cpu")}
        inner.pop("pin_memory", None)
        out = func(*_inner(args), **inner)
        if name == "copy_":
            return args[0]
        return There(out) if to_there else out

    def _note(self, what: str) -> None:
        main = threading.current_thread() is threading.main_thread()
        self.counts[what if main else f"{what} aside"] += 1

    def _crossed(self, way: str, tensor: torch.Tensor) -> None:
        self._note(f"copies {way}")
        self.counts[f"bytes {way}"] += tensor.numel() * tensor.element_size()


def _inner(values: Any) -> Any:
    return tree_map(lambda t: t.held if isinstance(t, There) else t, values)


def _wrapped(value: Any, same: dict[int, There]) -> Any:
    if not isinstance(value, torch.Tensor):
        return value
    return same[id(value)] if id(value) in same else There(value)

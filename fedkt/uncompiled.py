"""Optimisers without torch's compiler, whose import takes longer than torch's own: nothing is compiled here.

Touches internals of torch (tested with 2.13). Nothing is taken away: what is asked of the compiler beside the
few names below imports it then.
"""

import sys
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Any

_COMPILER = "torch._dynamo"


class _Compiler(ModuleType):
    """Stands for torch's compiler, which every optimiser asks to leave it alone."""

    @staticmethod
    def disable(fn: Callable[..., Any], recursive: bool = True, **_: Any) -> Callable[..., Any]:
        """Return the function: nothing is compiled."""
        return fn

    @staticmethod
    def graph_break(msg: str = "") -> None:
        """Do nothing: nothing is compiled."""

    def __getattr__(self, name: str) -> Any:
        """Give way to the compiler itself; who looks all modules over has not asked for it."""
        if name.startswith("__") and name != "__path__":
            raise AttributeError(name)
        if sys.modules.get(_COMPILER) is self:
            del sys.modules[_COMPILER]
        return getattr(import_module(_COMPILER), name)


def without_compiler() -> None:
    """Let optimisers work without importing torch's compiler, unless it is imported already."""
    sys.modules.setdefault(_COMPILER, _Compiler(_COMPILER))

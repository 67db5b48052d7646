"""What a strategy raises at the server becomes one sentence; its traceback is kept in the run's folder."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fedkt.errors import FedktError, RunError
from fedkt.files import write_atomic

FILE = "error.txt"


@contextmanager
def plug_in(folder: Path, what: str) -> Iterator[None]:
    """Raise RunError '<what>: <error>' for what the block raises; what fedkt and the system say stays."""
    try:
        yield
    except (FedktError, OSError):
        raise
    except (Exception, SystemExit) as error:
        write_atomic(folder / FILE, traceback.format_exc().encode())
        text = f"{what}: {type(error).__name__}: {error}"
        raise RunError(f"{text}; the traceback is in {folder / FILE}.") from error

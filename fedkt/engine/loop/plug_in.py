"""What a strategy raises at the server becomes one sentence; its traceback is kept in the run's folder."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fedkt.errors import ERROR_FILE, FedktError, RunError, own_code
from fedkt.files import write_atomic


@contextmanager
def plug_in(folder: Path, what: str) -> Iterator[None]:
    """Raise RunError '<what>: <error>' for what the block raises; what fedkt and the system say stays."""
    try:
        yield
    except (FedktError, OSError):
        raise
    except (Exception, SystemExit) as error:
        write_atomic(folder / ERROR_FILE, traceback.format_exc().encode())
        where = own_code(error)
        text = f"{what}: {type(error).__name__}: {error}" + (f" ({where})" if where else "")
        raise RunError(f"{text}; the traceback is in {folder / ERROR_FILE}.") from error

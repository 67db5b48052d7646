"""Files that are whole or absent: write beside, flush to disk, rename; by a thread where nobody can wait.

And where those of users lie."""

import ctypes
import json
import os
import zlib
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from fedkt.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor


PLATFORM = "fedkt runs on Linux and macOS; on Windows use WSL, or a container."


def check_platform() -> None:
    """Raise InputError on a system that cannot lock files as POSIX does, which runs and ledgers rely on."""
    try:
        import fcntl  # noqa: F401
    except ImportError:
        raise InputError(f"this system has no POSIX file locks (fcntl); {PLATFORM}") from None


def processors() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):  # on Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def data_places(name: str, data_dir: Path | None) -> list[Path]:
    """Return where data of a name may lie: below ``data_dir``, ``$FEDKT_DATA``, ``./data``, or here."""
    roots = [Path(root) for root in (data_dir, os.environ.get("FEDKT_DATA"), "data", ".") if root]
    return list(dict.fromkeys(root / name for root in roots))


def lock_file(file: IO[Any], *, wait: bool = True) -> None:
    """Keep other processes out of an open file until it is closed, or this process ends however it ends.

    Without ``wait`` BlockingIOError is raised where another process has it. Raises InputError on a system
    without such locks.
    """
    check_platform()
    import fcntl

    fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))


def write_atomic(path: Path, data: bytes, *, sync: bool = True) -> None:
    """Replace ``path`` by ``data`` so that a reader, or a crash, sees the old file or the new one.

    Without ``sync`` that holds for readers and for a crash of this process, not of the machine.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(beside, "wb") as file:
            file.write(data)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
    if sync:
        sync_folder(path.parent)


def write_secret(path: Path, data: bytes) -> None:
    """Write a private key: readable by its owner alone, from the first moment."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)


def write_json(path: Path, content: Any) -> None:
    """Write ``content`` as indented JSON, atomically."""
    write_atomic(path, (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())


def write_tensors(path: Path, tensors: "Mapping[str, Tensor]", note: Any, *, sync: bool = True) -> None:
    """Write what :func:`tensors_as_bytes` makes, atomically."""
    write_atomic(path, tensors_as_bytes(tensors, note), sync=sync)


def tensors_as_bytes(tensors: "Mapping[str, Tensor]", note: Any) -> bytes:
    """Return tensors as safetensors with ``note`` as JSON in the header; with a checksum.

    Equal tensors with equal notes make equal bytes.
    """
    # Through NumPy, since the saver for torch refuses tensors that share memory, as teachers may.
    from safetensors.numpy import save

    held = {name: tensor.detach().cpu().contiguous().numpy() for name, tensor in tensors.items()}
    text = json.dumps(note)
    # One key: of several, safetensors writes the order that a hash table has, another one in each process.
    about = json.dumps({"crc32": _checksum(held, text), "note": text})
    return save(held, metadata={"fedkt": about})


def read_tensors(path: Path) -> "tuple[dict[str, Tensor], Any]":
    """Read what :func:`write_tensors` wrote: the tensors and the note.

    Raises ValueError where the content does not match its checksum, or has none.
    """
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        about = file.metadata() or {}
        about = json.loads(about["fedkt"]) if "fedkt" in about else about
        if set(about) != {"crc32", "note"}:  # a name in the header may be what was damaged
            raise ValueError("it has no checksum; it is damaged, or fedkt did not write it")
        text = about["note"]
        # Copied, since products of tensors that lie unaligned in the file's memory differ in the last bit.
        tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    if about["crc32"] != _checksum({n: t.numpy() for n, t in tensors.items()}, text):
        raise ValueError("its content does not match its checksum")
    return tensors, json.loads(text)


def _checksum(tensors: "Mapping[str, NDArray[Any]]", note: str) -> str:
    """Return the CRC-32 of tensors and note: safetensors itself would not see a flipped bit."""
    found = zlib.crc32(note.encode())
    for name in sorted(tensors):
        values = tensors[name].reshape(-1).view("uint8").data
        found = zlib.crc32(values, zlib.crc32(name.encode(), found))
    return f"{found:08x}"


ASIDE = "fedkt-aside"
"""What the names of these threads begin with."""


class Aside:
    """One job at a time, done by a thread while its owner goes on; the next one waits for it."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, ASIDE)
        self._job: Future[None] | None = None

    @property
    def busy(self) -> bool:
        """Whether a job is at work."""
        return self._job is not None and not self._job.done()

    def begin(self, job: Callable[[], None], *, after: bool = True) -> None:
        """Begin a job once the one before is done. ``after``: wait for that, and raise what it raised."""
        if after:
            self.wait()
        self._job = self._thread.submit(job)

    def wait(self) -> None:
        """Wait for the job at work. Raises what it raised, each time until another one is begun."""
        if self._job is not None:
            self._job.result()


def sync_folder(folder: Path) -> None:
    """Bring a folder's list of files to the disk: new and renamed files live in it."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_all(folder: Path) -> None:
    """Bring all that was written to the folder's file system to the disk: one wait for many files."""
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "syncfs"):
        os.sync()
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        if libc.syncfs(handle):
            raise OSError(f"{folder} cannot be synchronised")
    finally:
        os.close(handle)

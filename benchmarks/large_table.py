"""A CSV file of 1 000 000 rows and 30 columns, loaded and dealt: seconds, and memory beside the file's size.

python -m benchmarks.large_table [ROWS]
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

COLUMNS = 30
CLIENTS = 10


def write(path: Path, rows: int) -> None:
    """Write a file of numbers as measurements have them (six digits), with a label and a site."""
    import pyarrow as pa
    from pyarrow import csv

    rng = np.random.default_rng(0)
    columns: dict[str, Any] = {f"c{i}": rng.normal(0, 1, rows).round(5) for i in range(COLUMNS - 2)}
    columns |= {"label": rng.integers(0, 2, rows), "site": rng.integers(0, CLIENTS, rows)}
    csv.write_csv(pa.table(columns), path)


def load(path: Path) -> dict[str, float]:
    """Load and deal the file as a run does; return seconds and bytes."""
    import torch  # noqa: F401 (not part of what is measured)

    import fedkt.data
    from fedkt import scenario

    described = scenario.load(
        {
            "name": "large",
            "data": {"dataset": f"csv:{path}", "site": "site", "partition": {"kind": "natural-id"}},
        }
    )
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begun = time.monotonic()
    federation = fedkt.data.build(described)
    seconds = time.monotonic() - begun
    assert len(federation.shards) == CLIENTS
    return {"seconds": seconds, "bytes": 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)}


def main(rows: int) -> None:
    """Print one line."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.csv"
        write(path, rows)
        code = "import json, sys; from pathlib import Path; from benchmarks.large_table import load; "
        code += "print(json.dumps(load(Path(sys.argv[1]))))"
        told = subprocess.run(
            [sys.executable, "-c", code, str(path)], check=True, capture_output=True, text=True
        ).stdout
        found, size = json.loads(told), path.stat().st_size
    print(
        f"{rows} x {COLUMNS}, {size / 1e6:.0f} MB: {found['seconds']:.1f} s, "
        f"{found['bytes'] / size:.2f} x the file's size in memory"
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)

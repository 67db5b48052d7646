"""Follow pages of the documentation as a reader does: files written, commands typed into a shell, Python run.

    python tests/project/pages.py README.md docs/tutorial.md docs/howto/*.md

Each page gets an empty folder, the ``fedkt`` and ``python`` beside this interpreter, and one Python session;
nothing of the checkout is on a search path. Ends with the first command that fails.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SESSION = """
import json, sys
for line in sys.stdin:
    exec(compile(json.loads(line), "cell", "exec"), globals())
    print("\\0", flush=True)
"""


def follow(page: Path, folder: Path) -> int:
    """Do what a page says in a folder; return how many blocks were run. Raises CalledProcessError."""
    tools = Path(sys.executable).parent
    around = {**os.environ, "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}", "MPLBACKEND": "agg"}
    around.pop("PYTHONPATH", None)
    ran = 0
    command = [str(tools / "python"), "-c", SESSION]
    with subprocess.Popen(
        command, cwd=folder, env=around, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as session:
        assert session.stdin is not None and session.stdout is not None
        for language, block in BLOCK.findall(page.read_text(encoding="utf-8")):
            named = re.match(r"# file: (\S+)\n", block)
            if named:
                (folder / named[1]).write_text(block, encoding="utf-8")
            elif language == "console":
                lines = [line for line in block.splitlines() if not line.startswith("make ")]
                subprocess.run(["bash", "-ec", "\n".join(lines)], cwd=folder, env=around, check=True)
                ran += 1
            elif language == "python":
                session.stdin.write(json.dumps(block) + "\n")
                session.stdin.flush()
                for line in iter(session.stdout.readline, "\0\n"):
                    if not line:
                        raise subprocess.CalledProcessError(session.wait(), block)
                    print(line, end="")
                ran += 1
        session.stdin.close()
    return ran


def main(pages: list[str]) -> None:
    """Follow pages, one after another."""
    for name in pages:
        begun = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            ran = follow(Path(name).resolve(), Path(folder))
        print(f"== {name}: {ran} blocks, {time.monotonic() - begun:.0f} s", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])

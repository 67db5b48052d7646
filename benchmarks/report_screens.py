"""The screenshots of both reports in docs/images: 1400 and 400 pixels wide, light and dark.

python -m benchmarks.report_screens COMPARISON RUN docs/images

COMPARISON and RUN: folders with a report.html. Needs chromium on the search path.
"""

import asyncio
import base64
import io
import json
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

SIZES = {1400: 3690, 400: 2600}
"""Width and height in pixels of what is taken of a page, from its top."""
SHOWN = {1400: 550, 400: 400}
"""How wide the picture is in docs."""


async def take(port: int, page: Path, width: int, theme: str) -> bytes:
    """Return a PNG of the top of a page."""
    from websockets.asyncio.client import connect

    request = urllib.request.Request(f"http://127.0.0.1:{port}/json/new?about:blank", method="PUT")
    with urllib.request.urlopen(request) as answer:
        address = json.load(answer)["webSocketDebuggerUrl"]
    async with connect(address, max_size=None) as socket:

        async def call(method: str, **parameters: Any) -> dict[str, Any]:
            await socket.send(json.dumps({"id": 1, "method": method, "params": parameters}))
            while (told := json.loads(await socket.recv())).get("id") != 1:
                pass
            return dict(told["result"])

        scheme = [{"name": "prefers-color-scheme", "value": theme}]
        await call("Emulation.setEmulatedMedia", features=scheme)
        size = {"width": width, "height": SIZES[width], "deviceScaleFactor": 1, "mobile": width < 600}
        await call("Emulation.setDeviceMetricsOverride", **size)
        await call("Page.navigate", url=page.absolute().as_uri())
        await asyncio.sleep(2)  # until all is drawn
        return base64.b64decode((await call("Page.captureScreenshot"))["data"])


def main(comparison: Path, run: Path, out: Path) -> None:
    """Take all eight."""
    from PIL import Image

    with tempfile.TemporaryDirectory() as profile:
        flags = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            "--remote-debugging-port=0",
        ]
        browser = subprocess.Popen(
            [str(shutil.which("chromium")), *flags, f"--user-data-dir={profile}"], stderr=subprocess.DEVNULL
        )
        try:
            told = Path(profile) / "DevToolsActivePort"
            while not told.is_file():
                time.sleep(0.1)
            port = int(told.read_text().split()[0])
            for kind, folder in (("comparison", comparison), ("run", run)):
                for width, height in SIZES.items():
                    for theme in ("light", "dark"):
                        taken = asyncio.run(take(port, folder / "report.html", width, theme))
                        picture = Image.open(io.BytesIO(taken)).convert("RGB")
                        shown = SHOWN[width], round(height * SHOWN[width] / width)
                        picture = picture.resize(shown, Image.Resampling.LANCZOS).quantize(256)
                        picture.save(out / f"report-{kind}-{width}-{theme}.png", optimize=True)
        finally:
            browser.terminate()
            browser.wait()


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))

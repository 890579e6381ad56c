"""``bench.bare`` with aiohttp instead of libcurl, to choose the client by: run by the environment of ``bench.rivals``.

It takes the same arguments and says the same. It must import nothing of this project.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import signal
import ssl
import time
from collections.abc import Sequence
from pathlib import Path

import aiohttp
from PIL import Image

GO = signal.SIGUSR1
TIMEOUT_SECONDS = 30.0


async def run(session: aiohttp.ClientSession, urls: Sequence[str], downloads: int) -> int:
    """Work off ``urls``, ``downloads`` at a time; returns the sum of the perimeters."""
    left = iter(urls)

    async def work() -> int:
        perimeter = 0
        for url in left:
            async with session.get(url) as response:
                response.raise_for_status()
                body = await response.read()
            width, height = Image.open(io.BytesIO(body)).size
            perimeter += 2 * (height + width)
        return perimeter

    return sum(await asyncio.gather(*(work() for _ in range(downloads))))


async def measure(urls: Sequence[str], downloads: int, ca: Path | None) -> dict[str, float]:
    trust = ssl.create_default_context(cafile=str(ca)) if ca else True
    connector = aiohttp.TCPConnector(limit=downloads, ssl=trust)
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        await run(session, urls[: 4 * downloads], downloads)
        print("ready", flush=True)
        signal.sigwait({GO})
        started = time.monotonic()
        perimeter = await run(session, urls, downloads)
        return {"seconds": time.monotonic() - started, "perimeter": perimeter}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("urls", type=Path)
    parser.add_argument("--slots", type=int, required=True)  # without a pause it has none but its downloads
    parser.add_argument("--downloads", type=int, required=True)
    parser.add_argument("--pause", type=float, nargs=2, required=True)
    parser.add_argument("--ca", type=Path)
    given = parser.parse_args()
    signal.pthread_sigmask(signal.SIG_BLOCK, {GO})
    found = asyncio.run(measure(given.urls.read_text().split(), given.downloads, given.ca))
    print(json.dumps(found), flush=True)
    signal.pause()  # the one who measures still reads what this process has cost


if __name__ == "__main__":
    main()

"""``python -m bench.accepting``: POSTs of 10,000 and 100,000 URLs against the bare insert of their rows, and memory.

Each size has a web server of its own, and the pairs take turns, after one that warms up.
"""

from __future__ import annotations

import argparse
import statistics
import sys

from bench import pictures, servers, services
from bench.pictures import WEIGHTS
from bench.servers import BenchError
from bench.ways import accept

SIZES = (10_000, 100_000)
MOST_INSERTS = 3.0
MOST_GROWTH = 1.1


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.accepting", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="pairs of each size (default: %(default)s)")
    given = parser.parse_args()
    try:
        with servers.running() as started:
            services.prepare(started)
            album = pictures.draw(started.root, WEIGHTS[1], 1)
            print("| URLs | POST, s | bare insert, s | times | | web MB after each | |\n|---|---|---|---|---|---|---|")
            for size in SIZES:
                pairs = accept.measure(started, album.urls(started.host.url, size), given.rounds)
                print(_row(size, pairs), flush=True)
    except (BenchError, TimeoutError, RuntimeError) as error:
        print(f"The benchmark failed: {error}", file=sys.stderr)
        return 1
    return 0


def _row(size: int, pairs: list[accept.Accepted]) -> str:
    post = statistics.median(each.post_seconds for each in pairs)
    bare = statistics.median(each.insert_seconds for each in pairs)
    memory = [each.web_mb for each in pairs]
    verdicts = (post <= MOST_INSERTS * bare, memory[-1] <= MOST_GROWTH * memory[0])
    time_met, memory_met = ("met" if verdict else "**missed**" for verdict in verdicts)
    shown = ", ".join(f"{each:.0f}" for each in memory)
    return f"| {size:,} | {post:.2f} | {bare:.2f} | {post / bare:.2f} | {time_met} | {shown} | {memory_met} |"


if __name__ == "__main__":
    sys.exit(main())

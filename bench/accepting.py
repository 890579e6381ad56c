"""``python -m bench.accepting``: POSTs of 10,000 and 100,000 URLs against the bare insert of their rows, and memory.

Each size has a web server of its own, and the pairs take turns, after one that warms up.
"""

from __future__ import annotations

import argparse
import sys

from bench import pictures, rounds, servers, services, targets
from bench.pictures import WEIGHTS
from bench.servers import BenchError
from bench.ways import accept


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.accepting", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="pairs of each size (default: %(default)s)")
    given = parser.parse_args()
    try:
        with servers.running() as started:
            services.prepare(started)
            album = pictures.draw(started.root, WEIGHTS[1], 1)
            found = [
                target
                for size in rounds.FULL.accepted
                for target in targets.accepting(
                    size, accept.measure(started, album.urls(started.host.url, size), given.rounds)
                )
            ]
    except (BenchError, TimeoutError, RuntimeError) as error:
        print(f"The benchmark failed: {error}", file=sys.stderr)
        return 1
    print(targets.table(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())

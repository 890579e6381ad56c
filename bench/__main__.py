"""``make bench``: measure side by side, write the figures to a file. Whatever it starts ends with it.

Three chapters, each on servers of its own: images a second and answers, jobs beside each other, hosts.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from bench import fetching_page, hosts, machine, results, rounds, servers, sharing
from bench.results import Found
from bench.servers import BenchError

RESULTS = Path(__file__).with_name("RESULTS.md")
INTERRUPTED = 130
CHAPTERS = IMAGES, BESIDE, HOSTS = ("images", "beside", "hosts")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure images a second, side by side.")
    parser.add_argument("--short", action="store_true", help="small numbers: shows that it runs, not how fast")
    parser.add_argument("--output", type=Path, default=RESULTS, help="file to write (default: %(default)s)")
    parser.add_argument("--chapters", nargs="+", choices=CHAPTERS, default=CHAPTERS, help="only these (default: all)")
    given = parser.parse_args()
    # Whoever ends us has everything that we started ended as Ctrl-C does.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        found = _measure(given.chapters, is_short=given.short)
    except KeyboardInterrupt:
        _tell("stopped")
        return INTERRUPTED
    except (BenchError, TimeoutError, RuntimeError) as error:
        print(f"The benchmark failed: {error}", file=sys.stderr)
        return 1
    day = datetime.now(UTC).date()
    given.output.write_text(results.render(found, command=_command(), day=day, is_short=given.short))
    if found.images:
        given.output.with_name("slots.svg").write_text(fetching_page.draw(found.images.fetching))
    _tell(f"written to {given.output}")
    return 0


def _measure(chapters: Sequence[str], *, is_short: bool) -> Found:
    with servers.running() as started:
        found = Found(machine.versions(started))
        if IMAGES in chapters:
            found.images = rounds.measure(started, rounds.SHORT if is_short else rounds.FULL, _tell)
    if BESIDE in chapters:
        with servers.running() as started:
            found.beside = list(sharing.measure(started, sharing.SHORT if is_short else sharing.FULL))
    if HOSTS in chapters:
        found.hosts = hosts.measure(is_short=is_short)
    return found


def _command() -> str:
    return " ".join(["python -m bench", *sys.argv[1:]])


def _tell(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')}  {line}", flush=True)


if __name__ == "__main__":
    sys.exit(main())

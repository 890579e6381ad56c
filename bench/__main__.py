"""``make bench``: measure side by side, write the figures to a file. Whatever it starts ends with it."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from bench import fetching_page, results, rounds, servers
from bench.servers import BenchError

RESULTS = Path(__file__).with_name("RESULTS.md")
INTERRUPTED = 130


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure images a second, side by side.")
    parser.add_argument("--short", action="store_true", help="small numbers: shows that it runs, not how fast")
    parser.add_argument("--output", type=Path, default=RESULTS, help="file to write (default: %(default)s)")
    given = parser.parse_args()
    # Whoever ends us has everything that we started ended as Ctrl-C does.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        with servers.running() as started:
            findings = rounds.measure(started, rounds.SHORT if given.short else rounds.FULL, _tell)
            text = results.render(findings, started, command=_command(), day=datetime.now(UTC).date())
    except KeyboardInterrupt:
        _tell("stopped")
        return INTERRUPTED
    except (BenchError, TimeoutError, RuntimeError) as error:
        print(f"The benchmark failed: {error}", file=sys.stderr)
        return 1
    given.output.write_text(text)
    given.output.with_name("slots.svg").write_text(fetching_page.draw(findings.fetching))
    _tell(f"written to {given.output}")
    return 0


def _command() -> str:
    return " ".join(["python -m bench", *sys.argv[1:]])


def _tell(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')}  {line}", flush=True)


if __name__ == "__main__":
    sys.exit(main())

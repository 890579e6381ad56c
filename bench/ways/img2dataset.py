"""Way (d): img2dataset, which people fetch images in bulk with, as fast as it goes: nothing is written or decoded anew.

Its time is from the start of its first shard to the end of its last one, as it notes them: the seconds that its
processes take to start do not count.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from bench import rivals
from bench.costs import Meter
from bench.runs import HOST, WORKERS, Run
from bench.servers import BenchError, Servers
from testbed.processes import Process

PROCESSES = 2
THREADS = (16, 64, 256)
START_SECONDS = 120.0
SECONDS_AN_IMAGE = 0.2
OPTIONS = (
    "--input_format=txt",
    "--output_format=dummy",
    "--resize_mode=no",
    "--skip_reencode=True",
    "--compute_hash=None",
    "--enable_wandb=False",
    "--disallowed_header_directives=[]",
    "--timeout=30",
)
# It would send even what stays on this machine to a proxy that is set for the outside, and ask for news of itself.
ENVIRONMENT = {"NO_PROXY": "*", "no_proxy": "*", "NO_ALBUMENTATIONS_UPDATE": "1"}


def measure(servers: Servers, urls: Sequence[str], threads: int) -> Run:
    """All ``urls`` once. Raises BenchError where one of them fails."""
    place = len(list(servers.folder.glob("img2dataset*.txt")))
    file, output = servers.folder / f"img2dataset{place}.txt", servers.folder / f"img2dataset{place}"
    file.write_text("\n".join(urls))
    argv: list[str | Path] = [
        rivals.program("img2dataset"),
        f"--url_list={file}",
        f"--output_folder={output}",
        *OPTIONS,
    ]
    argv += [f"--processes_count={PROCESSES}", f"--thread_count={threads}"]
    argv += [f"--number_sample_per_shard={-(-len(urls) // PROCESSES)}"]
    with Process(argv, log=servers.folder / "img2dataset.log", env=ENVIRONMENT) as process:
        meter = Meter({WORKERS: [process.pid], HOST: [servers.host.pid]})
        code = process.wait(START_SECONDS + SECONDS_AN_IMAGE * len(urls))
        spent = meter.read()
        shards = _shards(output)
        if code or sum(shard["successes"] for shard in shards) != len(urls):
            raise BenchError(f"img2dataset ended with {code}:\n{process.text[-2000:]}")
    seconds = max(shard["end_time"] for shard in shards) - min(shard["start_time"] for shard in shards)
    return Run(len(urls), seconds, spent, 0.0, spent.busy)


def _shards(output: Path) -> list[dict[str, float]]:
    return [json.loads(file.read_text()) for file in output.glob("*_stats.json")]

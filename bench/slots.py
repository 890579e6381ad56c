"""How many slots were in use during a job: seen from outside, by the image host's log and the table of images.

An image's slot is taken when its request comes to the host, and free after the seconds that its row says it took, the
pause included. What waits in a worker for its turn to be downloaded is in no slot by this measure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.servers import DATABASE, BenchError, Servers
from bench.services import Posted

# From the first second on, until so many of the images are done.
FROM_SECONDS = 1.0
UNTIL_PART = 0.98
STEP_SECONDS = 0.05
MARK = "&slot="

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 960, 320, 60, 20, 40, 40


@dataclass(frozen=True)
class Timeline:
    """``points`` are seconds since the answer to the POST, and how many of the slots were in use then."""

    slots: int
    points: Sequence[tuple[float, int]]
    until: float  # when the last 2 % of the images began to end

    @property
    def part(self) -> float:
        """The mean part of the slots in use, from the first second to the last 2 %."""
        used = [used for seconds, used in self.points if FROM_SECONDS <= seconds <= self.until]
        if not used:  # a short run's job is over before
            used = [used for seconds, used in self.points if seconds <= self.until]
        return sum(used) / max(1, len(used)) / self.slots


def marked(urls: Sequence[str]) -> list[str]:
    """The same URLs, of which the host notes when they are asked for; from 1 on, since nginx takes 0 for no."""
    return [f"{url}{MARK}{place}" for place, url in enumerate(urls, 1)]


def read(servers: Servers, posted: Posted, slots: int) -> Timeline:
    """The timeline of a job of ``marked`` URLs that is done. Raises BenchError where the host's log lacks images."""
    began = servers.host.slots()
    rows = servers.mariadb.execute(
        f"SELECT SUBSTRING_INDEX(url, '{MARK}', -1), seconds FROM images WHERE job_id = {posted.job_id}",
        database=DATABASE,
    )
    spans = []
    for place, seconds in rows:
        if (start := began.get(int(place))) is None:
            raise BenchError(f"the image host did not note when image {place} was asked for")
        spans.append((start - posted.answered_at, start - posted.answered_at + float(seconds)))
    return _timeline(spans, slots)


def _timeline(spans: Sequence[tuple[float, float]], slots: int) -> Timeline:
    changes = sorted([(start, 1) for start, _ in spans] + [(end, -1) for _, end in spans])
    ends = sorted(end for _, end in spans)
    points, used, place = [], 0, 0
    for step in range(int(ends[-1] / STEP_SECONDS) + 2):
        moment = step * STEP_SECONDS
        while place < len(changes) and changes[place][0] <= moment:
            used += changes[place][1]
            place += 1
        points.append((moment, used))
    return Timeline(slots, points, ends[int(UNTIL_PART * len(ends))])


def draw(timeline: Timeline, title: str) -> str:
    """The timeline as SVG."""
    end = max(timeline.points[-1][0], STEP_SECONDS)
    x, y = (WIDTH - LEFT - RIGHT) / end, (HEIGHT - TOP - BOTTOM) / timeline.slots
    floor = HEIGHT - BOTTOM

    def rule(used: float, name: str) -> str:
        at = floor - y * used
        line = f'<line x1="{LEFT}" y1="{at:.1f}" x2="{WIDTH - RIGHT}" y2="{at:.1f}" stroke="#bbb"/>'
        return f'{line}<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{name}</text>'

    def mark(seconds: float) -> str:
        at = LEFT + x * seconds
        return f'<line x1="{at:.1f}" y1="{TOP}" x2="{at:.1f}" y2="{floor}" stroke="#d97706" stroke-dasharray="4 3"/>'

    points = " ".join(f"{LEFT + x * seconds:.1f},{floor - y * used:.1f}" for seconds, used in timeline.points)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        f'font-size="11"><rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>'
        f'<text x="{LEFT}" y="22" font-size="14">{title}</text>'
        + rule(0, "0")
        + rule(timeline.slots * 0.9, f"{timeline.slots * 0.9:,.0f}")
        + rule(timeline.slots, f"{timeline.slots:,}")
        + mark(min(FROM_SECONDS, end))
        + mark(timeline.until)
        + f'<polyline points="{points}" fill="none" stroke="#2563eb" stroke-width="1.5"/>'
        + f'<text x="{LEFT}" y="{HEIGHT - 14}">0</text>'
        + f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 14}" text-anchor="end">{end:.1f} s</text></svg>\n'
    )

"""The samples as one SVG: a row for each unit, a line for each part, a tick for each fault."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from soak.watch import Sample

WIDTH, ROW, LEFT, RIGHT, TOP = 960, 180, 70, 150, 30
COLOURS = ("#2563eb", "#dc2626", "#059669", "#d97706", "#7c3aed", "#0891b2", "#be185d")


def svg(samples: Sequence[Sample], faults: Sequence[tuple[float, str]], title: str) -> str:
    units = sorted({sample.unit for sample in samples})
    end = max((sample.seconds for sample in samples), default=1.0) or 1.0
    height = TOP + ROW * len(units) + 40
    font = 'font-family="sans-serif" font-size="11"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" {font}>',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        f'<text x="{LEFT}" y="18" font-size="14">{escape(title)}</text>',
    ]
    for number, unit in enumerate(units):
        parts += _row([sample for sample in samples if sample.unit == unit], TOP + ROW * number, end, unit)
    scale = (WIDTH - LEFT - RIGHT) / end
    for seconds, name in faults:
        x = LEFT + scale * seconds
        bottom = TOP + ROW * len(units)
        line = f'<line x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{bottom}" stroke="#ddd">'
        parts.append(f"{line}<title>{escape(name)}</title></line>")
    parts.append(f'<text x="{LEFT}" y="{height - 12}">0</text>')
    parts.append(f'<text x="{WIDTH - RIGHT - 40}" y="{height - 12}">{end / 60:.1f} minutes</text></svg>')
    return "\n".join(parts) + "\n"


def _row(samples: Sequence[Sample], top: float, end: float, unit: str) -> list[str]:
    most = max(sample.value for sample in samples) or 1.0
    bottom = top + ROW - 25
    x = (WIDTH - LEFT - RIGHT) / end
    y = (ROW - 40) / most
    found = [
        f'<line x1="{LEFT}" y1="{bottom}" x2="{WIDTH - RIGHT}" y2="{bottom}" stroke="#999"/>',
        f'<text x="5" y="{bottom}">0</text><text x="5" y="{top + 20}">{most:,.0f} {escape(unit)}</text>',
    ]
    for number, part in enumerate(sorted({sample.part for sample in samples})):
        colour = COLOURS[number % len(COLOURS)]
        points = " ".join(
            f"{LEFT + x * each.seconds:.1f},{bottom - y * each.value:.1f}" for each in samples if each.part == part
        )
        found.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        found.append(
            f'<text x="{WIDTH - RIGHT + 8}" y="{top + 20 + 14 * number}" fill="{colour}">{escape(part)}</text>'
        )
    return found

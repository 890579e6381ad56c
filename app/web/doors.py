"""The doors that a web server serves: all, or those that WEB_DOORS names. The routes of the others are not there.

What jobs of all doors have in common stays everywhere: their states, results and files, visits, webhooks, keys, the
pages, health and metrics. So each door can have web servers and workers of its own behind one gateway.
"""

from __future__ import annotations

from app.errors import SettingError
from app.models import JobSource
from config import Settings

# By endpoint; one that ends with a point stands for all of its blueprint.
ROUTES = {
    JobSource.URLS: ("jobs.submit", "pages.submit", "pages.submit_list"),
    JobSource.BATCHES: ("batches.",),
    JobSource.MANIFESTS: ("manifests.",),
    JobSource.IMAGES: ("images.",),
    JobSource.UPLOADS: ("uploads.",),
}


def closed(settings: Settings) -> tuple[str, ...]:
    """What is not served, as in ``ROUTES``. Raises SettingError."""
    doors = settings.web_doors
    if unknown := set(doors) - set(JobSource):
        raise SettingError(f"WEB_DOORS: there is no door {', '.join(unknown)}; known are {', '.join(JobSource)}")
    return tuple(name for door, names in ROUTES.items() if doors and door not in doors for name in names)


def is_closed(endpoint: str, closed: tuple[str, ...]) -> bool:
    return endpoint in closed or f"{endpoint.partition('.')[0]}." in closed

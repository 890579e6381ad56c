"""GET /metrics, in the text format of Prometheus.

What the database knows is read from it at each scrape, so every process of every host says the same, and a restart
changes nothing. Requests are counted by the processes that answer them, in files that all processes of one gunicorn
share (``deploy/gunicorn.conf.py`` makes the folder); without the folder each process counts for itself.
"""

from __future__ import annotations

import hmac
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

from flask import Flask, Response, g, request
from flask_openapi import APIBlueprint, Tag
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector
from werkzeug.exceptions import Unauthorized

from app.domain import access, figures, totals
from app.domain.access import Scope
from app.domain.figures import Figures
from app.errors import UnavailableError
from app.extensions import settings
from app.models import DeliveryState, ImageState, JobSource, JobState
from app.web.auth import public
from app.web.documents import metrics as documents
from app.web.ops import release
from app.web.requests import validated

blueprint = APIBlueprint("metrics", __name__, abp_tags=[Tag(name="service", description="The service itself")])

# Scanners make up addresses and methods; each of either would be a series for good.
NO_RULE = "none"
METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)

_web = CollectorRegistry()
_requests = Counter(
    "imagejobs_http_requests", "Requests answered, by the rule of their address", ["method", "rule", "status"],
    registry=_web,
)  # fmt: skip
_seconds = Histogram(
    "imagejobs_http_request_seconds", "Time until an answer began", ["method", "rule"], buckets=BUCKETS, registry=_web
)


def register(app: Flask) -> None:
    """Count every answer; before whatever may refuse a request, so that refusals are counted too."""
    app.before_request(_begin)
    app.after_request(_end)


def _begin() -> None:
    g.counted_from = time.perf_counter()


def _end(response: Response) -> Response:
    method = request.method if request.method in METHODS else "other"
    rule = request.url_rule.rule if request.url_rule else NO_RULE
    _requests.labels(method, rule, response.status_code).inc()
    _seconds.labels(method, rule).observe(time.perf_counter() - g.counted_from)
    return response


@blueprint.get("/metrics", **documents.metrics)
@public
@validated
def show() -> Response:
    """Everything that is measured, as Prometheus reads it; also while the database or the broker is away."""
    _check_caller()
    counted = CollectorRegistry()
    if folder := settings.PROMETHEUS_MULTIPROC_DIR:
        MultiProcessCollector(counted, folder)
    service = CollectorRegistry()
    service.register(_Service())
    body = generate_latest(counted if folder else _web) + generate_latest(service)
    return Response(body, content_type=CONTENT_TYPE_LATEST)


def _check_caller() -> None:
    """Raises Unauthorized unless METRICS_TOKEN was sent, or an admin's key: the totals are those of all owners.

    Without a token AUTH decides.
    """
    caller = access.current()
    is_admin = caller.may(Scope.ADMIN) and (caller.key_id is not None or not settings.METRICS_TOKEN)
    sent = request.headers.get("Authorization", "").encode("latin-1")  # the bytes as sent
    is_token = bool(settings.METRICS_TOKEN) and hmac.compare_digest(sent, f"Bearer {settings.METRICS_TOKEN}".encode())
    if not (is_admin or is_token):
        raise Unauthorized("METRICS_TOKEN, or a key with the scope admin, is to be sent as a bearer token")


class _Service(Collector):
    """The database, the broker and the disk, asked once a scrape."""

    def collect(self) -> Iterator[Metric]:
        yield _labelled("release", "1, and the release that answers", "version", {release(): 1})
        try:
            found = figures.read()
        except UnavailableError:
            yield _gauge("database_up", "Whether the database answers", 0)
        else:
            yield _gauge("database_up", "Whether the database answers", 1)
            yield from _of_database(found)
        lengths = figures.queue_lengths()
        yield _gauge("broker_up", "Whether the broker answers", lengths is not None)
        yield _labelled("queue_messages", "Bells that no worker has heard yet", "queue", lengths or {})
        if settings.DATA_DIR.is_dir():
            usage = shutil.disk_usage(settings.DATA_DIR)
            yield _gauge("data_dir_bytes", "Size of the file system that DATA_DIR is on", usage.total)
            yield _gauge("data_dir_free_bytes", "What is free of it", usage.free)


def _of_database(found: Figures) -> Iterator[Metric]:
    yield _gauge("jobs_ongoing", "Jobs with open images", found.jobs_ongoing)
    yield _gauge("images_open", "Images without a result", found.images_open)
    yield _gauge("images_in_flight", "Images that live workers hold", found.in_flight)
    yield _gauge("worker_slots", "Images that live workers can hold", found.slots)
    workers = {"alive": found.workers_alive, "reports": found.workers_for_reports, "silent": found.workers_silent}
    sentence = "Worker processes; reports: alive, and take no images; silent: gone in the last day without a good-bye"
    yield _labelled("workers", sentence, "state", workers)
    chunks = {"due": found.chunks_due, "late": found.chunks_late, "leased": found.chunks_leased}
    sentence = "Pieces of work; late: due again, of those due; leased: held by a worker, or to be tried later"
    yield _labelled("chunks", sentence, "state", chunks)
    yield _gauge("oldest_due_seconds", "How long the oldest work has waited for a worker", found.oldest_due_seconds)
    yield _gauge("deliveries_due", "Webhooks that may be sent now", found.deliveries_due)
    yield _gauge("delivery_oldest_due_seconds", "How long the oldest has waited", found.oldest_delivery_seconds)
    for name, label, sentence, known in TOTALS:
        # From zero on, since a rate cannot be told from a series that begins with its first event.
        values = dict.fromkeys(known, 0) | dict(found.totals.get(name, {}))
        yield _labelled(name, sentence, label, values, CounterMetricFamily)


TOTALS: tuple[tuple[str, str, str, list[str]], ...] = (
    (totals.JOBS_CREATED, "source", "Jobs accepted, by door", [source.value for source in JobSource]),
    (
        totals.JOBS_FINISHED,
        "state",
        "Jobs that ended; again where one was retried",
        [state.value for state in JobState if state is not JobState.ONGOING],
    ),
    (
        totals.IMAGES_SETTLED,
        "state",
        "Images that got a result; again where one was retried",
        [state.value for state in ImageState if state is not ImageState.OPEN],
    ),
    (totals.IMAGE_ERRORS, "code", "Images that failed for good, by error code", []),
    (totals.IMAGE_RETRIES, "code", "Attempts that failed and were to be repeated, by error code", []),
    (
        totals.WEBHOOK_TRIES,
        "state",
        "Tries to deliver a webhook, by what came of them; pending: to be repeated",
        [state.value for state in DeliveryState],
    ),
)


def _gauge(name: str, sentence: str, value: float) -> Metric:
    return GaugeMetricFamily(f"imagejobs_{name}", sentence, value=value)


def _labelled(
    name: str,
    sentence: str,
    label: str,
    values: Mapping[str, float],
    kind: Callable[..., Any] = GaugeMetricFamily,
) -> Metric:
    family = kind(f"imagejobs_{name}", sentence, labels=[label])
    for value_of_label, value in sorted(values.items()):
        family.add_metric([value_of_label], value)
    return cast(Metric, family)

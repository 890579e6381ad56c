"""What a receiver is sent: the event, and what was so when it happened."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from app import times
from app.domain import outbox
from app.models import Delivery, VisitState
from app.models.jobs import JobState

MICROSECONDS = 1_000_000


def message_id(delivery: Delivery) -> str:
    """The same for every try, so that a receiver can drop what it has had; another one after a restored backup."""
    moment = int((delivery.created_at - datetime(1970, 1, 1)).total_seconds() * MICROSECONDS)
    return f"msg_{delivery.id}_{moment}"


def body(delivery: Delivery, metadata: dict[str, Any] | None) -> bytes:
    """The bytes that are sent and signed; ``metadata`` is what the client gave its job."""
    return json.dumps(payload(delivery, metadata), ensure_ascii=False, separators=(",", ":")).encode()


def payload(delivery: Delivery, metadata: dict[str, Any] | None) -> dict[str, Any]:
    """At most some 20 KB: the metadata is bounded, and so is all else."""
    shape = {outbox.VISIT_SETTLED: _visit, outbox.TEST: _test}.get(delivery.event, _job)
    data = shape(delivery, delivery.data)
    if delivery.job_id:
        data["metadata"] = metadata
    return {"type": delivery.event, "timestamp": times.rfc3339(delivery.created_at), "data": data}


def _job(delivery: Delivery, data: dict[str, Any]) -> dict[str, Any]:
    address = f"/api/jobs/{delivery.job_id}"
    return {
        "job_id": delivery.job_id,
        # As polling tells it, which knows no third word for the end.
        "status": "completed" if data["state"] == JobState.COMPLETED else "failed",
        "state": data["state"],
        "version": delivery.version,
        "source": data["source"],
        "images": {
            "total": data["images_total"],
            "done": data["images_done"],
            "failed": data["images_failed"],
            "cancelled": data["images_cancelled"],
        },
        "visits": data["visits_total"],
        **{name: _moment(data[name]) for name in ("created_at", "started_at", "finished_at")},
        "links": {
            "self": f"/api/status?jobid={delivery.job_id}",
            "job": address,
            "images": f"{address}/images",
            "errors": f"{address}/errors",
        },
    }


def _visit(delivery: Delivery, data: dict[str, Any]) -> dict[str, Any]:
    is_completed = data["state"] == VisitState.COMPLETED
    images = data["images_total"]
    return {
        "job_id": delivery.job_id,
        "visit": delivery.visit_seq,
        "store_id": data["store_id"],
        "visit_time": data["visited_as_sent"],
        "date": _moment(data["visited_at"]),
        "status": "completed" if is_completed else "failed",
        "state": data["state"],
        "version": delivery.version,
        "images": {"total": images, "failed": data["images_failed"], "cancelled": data["images_cancelled"]},
        # Both hold for visits whose images all succeeded, as in GET /api/visits.
        "perimeter": data["perimeter"] if is_completed else None,
        "average_seconds": round(data["seconds"] / images, 3) if is_completed and images else None,
        "error_code": data["error_code"],
        "error_message": data["error_message"],
        "links": {"job": f"/api/jobs/{delivery.job_id}", "images": f"/api/jobs/{delivery.job_id}/images"},
    }


def _test(delivery: Delivery, _data: dict[str, Any]) -> dict[str, Any]:
    return {"webhook_id": delivery.webhook_id, "message": "Messages from imagejobs arrive here."}


def _moment(text: str | None) -> str | None:
    """A time as databases write it into JSON."""
    return None if text is None else times.rfc3339(datetime.fromisoformat(text))

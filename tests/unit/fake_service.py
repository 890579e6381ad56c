"""A small real HTTP server that speaks the contract as far as the client needs, with faults on demand."""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

EVIL = "\x1b[31mRED\x07\u202e"
IMAGES = [
    {"seq": 0, "visit": 0, "url": "https://host/a.jpg", "state": "done", "error_code": None, "error_message": None,
     "width": 40, "height": 30, "perimeter": 140, "format": "JPEG", "bytes": 900, "seconds": 0.25, "attempts": 1},
    {"seq": 1, "visit": 0, "url": "https://host/b.jpg", "state": "failed", "error_code": "http_404",
     "error_message": f"gone {EVIL}", "width": None, "height": None, "perimeter": None, "format": None, "bytes": None,
     "seconds": None, "attempts": 2},
    {"seq": 2, "visit": 1, "url": "=cmd|' /C calc'!A0", "state": "done", "error_code": None, "error_message": None,
     "width": 8, "height": 9, "perimeter": 34, "format": "PNG", "bytes": 70, "seconds": 0.1, "attempts": 1},
]  # fmt: skip
ERRORS = [
    {"error_code": "http_404", "images": 12, "examples": [
        {"seq": 1, "url": "https://host/b.jpg", "error_message": f"gone {EVIL}"}]},
    {"error_code": "timeout", "images": 1, "examples": []},
]  # fmt: skip
VISITS = [
    {"store_id": "S1", "area": "710006", "store_name": "BHARAT STORE",
     "data": [{"date": "2020-09-02T00:00:53Z", "perimeter": 2000, "images": 2, "average_seconds": 0.25},
              {"date": "2020-09-03T00:00:00Z", "perimeter": 140, "images": 1, "average_seconds": 0.3}]},
    {"store_id": "S2", "area": "710006", "store_name": "@SUM(A1)",
     "data": [{"date": "2020-09-02T00:00:53Z", "perimeter": 8, "images": 1, "average_seconds": 0.1}]},
]  # fmt: skip


class Server(ThreadingHTTPServer):
    """``faults`` are answered first, one a request: a status with headers, or "lost" (done, but never answered)."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.jobs: dict[str, dict[str, Any]] = {}
        self.faults: list[tuple[int, dict[str, str]] | str] = []
        self.asked: list[tuple[str, dict[str, str], dict[str, str]]] = []
        self.verdict = "completed"
        self.bodies: list[Any] = []  # of retries
        self.forms: list[tuple[str, bytes]] = []
        self.cancelled: tuple[int, dict[str, Any]] = (200, {
            "status": "failed", "state": "cancelled", "job_id": 7, "error": [{"store_id": "S1", "error": "cancelled"}],
            "images": {"total": 40, "open": 0, "done": 10, "failed": 0, "cancelled": 30},
        })  # fmt: skip

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def job(self, key: str, body: bytes) -> int:
        if key not in self.jobs:
            self.jobs[key] = {"id": 7 + len(self.jobs), "open": 40, "body": json.loads(body)}
        return int(self.jobs[key]["id"])

    def status(self, job_id: int) -> dict[str, Any]:
        job = next(job for job in self.jobs.values() if job["id"] == job_id)
        job["open"] = max(0, job["open"] - 20)
        counts = {"total": 40, "open": job["open"], "done": 39 - job["open"], "failed": 1, "cancelled": 0}
        answer = {
            "status": "ongoing" if job["open"] else self.verdict,
            "job_id": job_id,
            "images": counts,
            "percent": 50.0,
            "eta_seconds": 3.0 if job["open"] else None,
            "started_at": "2020-09-02T00:00:53Z",
            "finished_at": None if job["open"] else "2020-09-02T00:00:55Z",
        }
        if answer["status"] == "failed":
            answer["error"] = [{"store_id": "S1", "error": f"no such store {EVIL}"}]
        return answer  # fmt: skip


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._respond(b"")

    def do_POST(self) -> None:
        self._respond(self.rfile.read(int(self.headers["Content-Length"])))

    def log_message(self, *_: object) -> None:
        pass

    def _respond(self, body: bytes) -> None:
        address = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(address.query).items()}
        self.server.asked.append((address.path, query, dict(self.headers)))
        fault = self.server.faults.pop(0) if self.server.faults else None
        if isinstance(fault, tuple):
            return self._answer(fault[0], {"error": f"fault {EVIL}"}, fault[1])
        status, answer = self._found(address.path, query, body)
        if fault == "lost":
            self.close_connection = True
            return None
        return self._answer(status, answer, {})

    def _found(self, path: str, query: dict[str, str], body: bytes) -> tuple[int, Any]:
        if path == "/api/submit/":
            if b"visits" not in body:
                return 400, {"error": "visits: is missing"}
            return 201, {"job_id": self.server.job(self.headers["Idempotency-Key"], body)}
        if path.startswith("/api/v1/"):
            self.server.forms.append((self.headers["Content-Type"], body))
            return 200, {"ok": "Processing Images", "job_id": self.server.job(self.headers["Idempotency-Key"], b"0")}
        if path == "/api/status":
            known = any(str(job["id"]) == query["jobid"] for job in self.server.jobs.values())
            return (200, self.server.status(int(query["jobid"]))) if known else (400, {})
        if path == "/api/jobs/7/images":
            return 200, page_of([row for row in IMAGES if query.get("state") in (None, row["state"])], query)
        if path == "/api/jobs/7/errors":
            return 200, {"job_id": 7, "results": ERRORS}
        if path == "/api/jobs/7/retry":
            self.server.bodies.append(json.loads(body))
            return 202, {"job_id": 7, "reopened": 3, "unknown_store": 2}
        if path == "/api/jobs/7/cancel":
            return self.server.cancelled
        if path == "/api/jobs":
            jobs = [{"job_id": n, "state": "completed", "images": {"total": 5, "done": 5}, "visits": 1, "priority": 5,
                     "created_at": "2020-09-02T00:00:53Z"} for n in (3, 2, 1)]  # fmt: skip
            return 200, page_of(jobs, query)
        if path == "/api/visits" and query.get("area") == "710006":
            return 200, page_of(VISITS, query)
        if path == "/api/visits":
            return 400, {"error": "give at least one of area, storeid, startdate, enddate"}
        return 404, {"error": "no such address"}

    def _answer(self, status: int, answer: object, headers: dict[str, str]) -> None:
        body = json.dumps(answer).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def page_of(rows: list[Any], query: dict[str, str]) -> dict[str, Any]:
    """One row a page, so that every list has several."""
    at = int(query.get("cursor", 0))
    return {"results": rows[at : at + 1], "next": str(at + 1) if at + 1 < len(rows) else None}

"""The web server's settings: ``gunicorn --config deploy/gunicorn.conf.py``. Options on its command line win."""

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

from gunicorn import util

PROJECT = Path(__file__).resolve().parents[1]
# The `gunicorn` script does not look for modules in the current folder before it has read this file.
sys.path.insert(0, str(PROJECT))

from app import memory  # noqa: E402
from config import Settings  # noqa: E402

settings = Settings.from_env()

wsgi_app = "app:create_app()"
bind = f"[{settings.HOST}]:{settings.PORT}" if ":" in settings.HOST else f"{settings.HOST}:{settings.PORT}"

# Threads, since some requests wait for minutes (a manifest's images) and clients may be slow; a process for each core,
# since one computes on one core at a time. One by default: SQLite has one writer.
worker_class = "gthread"
workers = settings.WEB_PROCESSES
threads = settings.WEB_THREADS

# Idle keep-alive connections wait in the main thread and hold no worker thread, so that pollers may keep theirs.
keepalive = 15
worker_connections = 1000
backlog = 2048

# The heartbeat comes from the main thread: a slow request does not count, only a process that hangs as a whole.
timeout = 60
# Requests in flight may end; less than the 35 s that the supervisor gives its children.
graceful_timeout = 25
# The heartbeat's file is in memory, since a slow disk must not look like a process that hangs.
MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None
worker_tmp_dir = MEMORY

# Each worker process opens its own connections; the parent must not have any to share.
preload_app = False

# The longest that gunicorn can be told to take (without switching the limit off): visits by many filters.
limit_request_line = 8190

# A line for each of thousands of polls hides the others; nginx writes access logs in production.
accesslog = None
errorlog = "-"
loglevel = settings.LOG_LEVEL.lower()

# Nobody steers gunicorn at run time; it would put its socket into the user's home.
control_socket_disable = True


def when_ready(server):
    """Called once the server listens."""
    server.log.info(settings.auth_sentence)


# A client that falls silent in the middle of its body would hold a thread for good; eight of them would hold them all.
SILENCE_SECONDS = 30


def on_starting(server):
    """Called once, before there are workers: they count requests together in this folder, also when one is replaced."""
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = server.metrics_folder = tempfile.mkdtemp("-metrics", "imagejobs-", MEMORY)


def post_fork(server, worker):
    """Called in each worker, before it loads the service and has threads."""
    memory.share_arenas()


def post_worker_init(worker):
    """Called in each worker once it has loaded the service."""
    memory.leave_alone_what_stays()


def on_exit(server):
    shutil.rmtree(server.metrics_folder, ignore_errors=True)


def pre_request(worker, request):
    """Called before each request is handled."""
    request.unreader.sock.settimeout(SILENCE_SECONDS)


def write_error(sock, status, reason, _message):
    """What is not HTTP never gets to the service, nor what fails outside of it; errors are JSON, and echo nothing."""
    what = "not a request that can be read" if int(status) < 500 else "the answer broke off"
    body = json.dumps({"error": f"{what}: {reason}"})
    head = f"HTTP/1.1 {status} {reason}\r\nConnection: close\r\nContent-Type: application/json\r\n"
    security = "X-Content-Type-Options: nosniff\r\n"
    util.write_nonblock(sock, f"{head}{security}Content-Length: {len(body) + 1}\r\n\r\n{body}\n".encode("latin-1"))


# Gunicorn has no setting for it; its own is a page of HTML.
util.write_error = write_error

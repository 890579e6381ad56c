"""``imagejobs run``: the whole service in one go, until Ctrl-C: broker, web, workers, recover, deliver."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import click

from app import broker
from app.errors import SettingError
from app.lifelines import die_with_parent
from app.supervisor import Command, Supervisor
from config import Settings

PROJECT = Path(__file__).resolve().parents[2]
BACKLOG = 2048
# In DATA_DIR while the service runs: the address to reach it at, for scripts.
ADDRESS_FILE = "address"


@click.command("run")
@click.option("--stores", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="CSV of stores to load.")
@click.option("--sample", is_flag=True, help="Load the sample stores into the embedded database while it has none.")
@click.option("--with-parent", is_flag=True, help="Stop when the program that started this one ends.")
def run_command(stores: Path | None, sample: bool, with_parent: bool) -> None:
    """Run the whole service until Ctrl-C: database, broker, web, workers, recover and deliver.

    It takes its settings from the environment: PORT (0 picks a free one), DATA_DIR, DATABASE_URL, REDIS_URL and the
    others of the README's table.
    """
    if with_parent:
        die_with_parent(signal.SIGTERM)
    try:
        sys.exit(run(Settings.from_env(), stores, with_sample=sample))
    except SettingError as error:
        raise click.ClickException(str(error)) from error
    except KeyboardInterrupt:
        # Ctrl-C before anything was up is an end like any other.
        sys.exit(0)


def run(settings: Settings, stores: Path | None = None, *, with_sample: bool = False) -> int:
    """Run until a signal ends it; returns the exit code. Raises SettingError if it cannot start."""
    with ExitStack() as stack:
        listener = stack.enter_context(_listening(settings))
        embedded = [] if settings.REDIS_URL else stack.enter_context(broker.reserved(settings.DATA_DIR))
        _create_database(settings, _store_options(settings, stores, with_sample=with_sample))
        stack.enter_context(_announced(settings, listener))
        return Supervisor(_commands(settings, listener.fileno(), embedded)).run()


def _listening(settings: Settings) -> socket.socket:
    """The web's socket. It is opened here and handed down, so that a port that is taken is found out first, PORT=0
    works, and clients wait instead of being refused while the web process starts again."""
    host, port = settings.HOST, settings.PORT
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            reason = f"port {port} of {host} is in use: end the program that listens there, or choose another PORT"
        else:
            reason = f"cannot listen on HOST={host} PORT={port}: {error.strerror}"
        raise SettingError(reason) from error


def _store_options(settings: Settings, stores: Path | None, *, with_sample: bool) -> list[str]:
    """Which stores ``db_create.py`` is to load; somebody's own database never gets the sample."""
    if stores:
        return ["--stores", str(stores)]
    is_embedded = not (settings.DATABASE_URL or settings.SQL_DB_HOST)
    return ["--sample"] if with_sample and is_embedded else []


def _create_database(settings: Settings, options: list[str]) -> None:
    argv = [sys.executable, str(PROJECT / "db_create.py"), *options]
    done = subprocess.run(argv, env=os.environ | _environment(settings), preexec_fn=die_with_parent, check=False)
    if done.returncode:
        raise SettingError("the database could not be made ready; the lines above say why")


@contextmanager
def _announced(settings: Settings, listener: socket.socket) -> Iterator[None]:
    """Say where the service is, to people on standard output and to scripts in a file."""
    port = listener.getsockname()[1]
    is_here = settings.HOST in ("127.0.0.1", "localhost", "::1", "0.0.0.0", "::")
    host = f"[{settings.HOST}]" if ":" in settings.HOST else settings.HOST
    address = f"http://{'localhost' if is_here else host}:{port}"
    file = settings.DATA_DIR / ADDRESS_FILE
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_suffix(f".{os.getpid()}")
    temporary.write_text(f"{address}\n")
    temporary.replace(file)
    click.echo(f"imagejobs listens at {address}, its documentation is at {address}/docs (Ctrl-C ends it)")
    click.echo(settings.auth_sentence)
    try:
        yield
    finally:
        file.unlink(missing_ok=True)


def _commands(settings: Settings, listener: int, embedded: list[str]) -> list[Command]:
    """The children, in the order in which they start; all but the broker are stopped first."""
    environment = _environment(settings)
    python, level = sys.executable, settings.LOG_LEVEL.lower()
    gunicorn = ["-m", "gunicorn", "--config", str(PROJECT / "deploy/gunicorn.conf.py"), "--bind", f"fd://{listener}"]
    # Gossip and mingle make workers talk to each other about what nobody here asks them, and start a second later.
    celery = ["-m", "celery", "--quiet", "-A", "celery_worker", "worker", "--loglevel", level]
    celery += ["--without-gossip", "--without-mingle"]
    # Celery's page of warning to root is about pickled messages, which no worker of ours accepts.
    quiet = environment | {"PYTHONWARNINGS": "ignore:You're running the worker with superuser privileges"}
    commands = [
        Command("web", [python, *gunicorn, "app:create_app()"], environment, pass_fds=(listener,)),
        *(
            # The number of this process keeps two services on one broker apart.
            Command(f"worker{number}", [python, *celery, "-n", f"worker{number}.{os.getpid()}@%h"], quiet)
            for number in range(1, settings.WORKER_PROCESSES + 1)
        ),
        Command("recover", [python, "-m", "app.cli", "recover"], environment),
        Command("deliver", [python, "-m", "app.cli", "deliver"], environment),
    ]
    return [Command("broker", embedded, stop_stage=1), *commands] if embedded else commands


def _environment(settings: Settings) -> dict[str, str]:
    """What the children need beside our own environment: the project's modules, and lines printed as they come."""
    path = os.pathsep.join(filter(None, [str(PROJECT), os.environ.get("PYTHONPATH")]))
    return {"PYTHONPATH": path, "PYTHONUNBUFFERED": "1", "DATA_DIR": str(settings.DATA_DIR.resolve())}

"""Work on images: the use case behind the task of the same name."""

from __future__ import annotations

import threading
from typing import cast

from flask import Flask, current_app

from app.decoding.children import MOST_DEATHS
from app.decoding.options import WALL_FACTOR
from app.decoding.process import Cause
from app.domain import decoding, workers
from app.domain.claims import Only
from app.domain.conveyor_options import ConveyorOptions
from app.domain.outcomes import RetryPolicy
from app.domain.pump import Pump, PumpOptions
from app.extensions import settings
from app.fetching import FetchLimits
from app.processors import DecodeLimits
from config import Settings

# A worker that is asked to stop has this long for what is in flight; supervisors should wait 35 s before they kill.
STOP_SECONDS = 20.0
LEAST_STUCK_SECONDS = 60.0

_starting = threading.Lock()


def start() -> None:
    """Start this process's pump: from then on it looks for work now and then, and hears the bells. Once is enough."""
    _pump().start()


def work() -> bool:
    """Work on whatever is due for one slice of time; True where more is left. Starts the pump where nobody has."""
    return _pump().work(settings.SLICE_SECONDS)


def stop() -> None:
    """Begin to stop this process's pump, if it has one: claims end at once, what is in flight is finished."""
    if pump := current_app.extensions.get("pump"):
        pump.stop()


def join() -> None:
    """Wait until a stopping pump has written or given back everything."""
    if pump := current_app.extensions.get("pump"):
        pump.join()


def _pump() -> Pump:
    app = cast(Flask, current_app._get_current_object())  # type: ignore[attr-defined]
    with _starting:
        if "pump" not in app.extensions:
            app.extensions["pump"] = Pump(app, _options(app.config["SETTINGS"]))
    return cast(Pump, app.extensions["pump"])


def _options(options: Settings) -> PumpOptions:
    conveyor = ConveyorOptions(
        slots=options.SLOTS,
        ahead=max(options.CHUNK_SIZE, 2 * options.SLOTS),
        pause_min_seconds=options.GPU_PAUSE_MIN_SECONDS,
        pause_max_seconds=options.GPU_PAUSE_MAX_SECONDS,
        fetch=FetchLimits(
            downloads=options.FETCH_DOWNLOADS,
            timeout_seconds=options.FETCH_TIMEOUT_SECONDS,
            connect_timeout_seconds=options.FETCH_CONNECT_TIMEOUT_SECONDS,
            max_bytes=options.FETCH_MAX_BYTES,
            max_redirects=options.FETCH_MAX_REDIRECTS,
            max_url_bytes=options.FETCH_MAX_URL_BYTES,
            ca_bundle=options.FETCH_CA_BUNDLE or None,
            allowed_networks=options.allowed_networks,
        ),
        decode=DecodeLimits(options.image_formats, options.IMAGE_MAX_PIXELS),
        children=decoding.options(options),
        lane_processes=options.LANE_PROCESSES,
        retry=RetryPolicy(options.RETRY_ATTEMPTS, options.RETRY_BASE_SECONDS, options.RETRY_MAX_SECONDS),
    )
    working = options.DECODE_TIMEOUT_SECONDS * WALL_FACTOR * MOST_DEATHS[Cause.LATE]
    longest = options.FETCH_TIMEOUT_SECONDS + working + options.GPU_PAUSE_MAX_SECONDS
    return PumpOptions(
        me=workers.this_process(options.SLOTS),
        lease_seconds=options.LEASE_SECONDS,
        flush_seconds=options.FLUSH_SECONDS,
        stop_seconds=STOP_SECONDS,
        # Twice what an image may take, and room for the database's own retries.
        stuck_seconds=2 * longest + LEAST_STUCK_SECONDS,
        conveyor=conveyor,
        only=Only(options.worker_sources, options.worker_lanes),
    )

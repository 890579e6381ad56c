"""Every setting of the service, read from the environment here and nowhere else.

A setting is one field: its name is the environment variable's, its default is safe, its description is what the
README's table shows. A value that cannot be used stops the start with a sentence that names it.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from app import storage
from app.errors import SettingError

# The formats that Pillow reads safely and stores send; MPO is what some phones write under the name of JPEG.
IMAGE_FORMATS = "JPEG,MPO,PNG,WEBP,GIF,BMP,TIFF"

WORKER_TASKS = ("images", "reports")
SECONDS = {"second": 1, "minute": 60, "hour": 3600}


class Settings(BaseModel):
    """The settings of one process; frozen, so that what was checked at the start stays true."""

    model_config = ConfigDict(frozen=True, extra="ignore", validate_default=True)

    DATABASE_URL: str = Field(
        "",
        description="Where jobs and results live: `mysql+pymysql://...` (MySQL 8, MariaDB "
        "10.6+) or `sqlite:///...`. Empty: the five parts below, else SQLite in `DATA_DIR`.",
    )
    SQL_DB_HOST: str = Field("", description="Host of the MySQL server, in place of `DATABASE_URL`.")
    SQL_DB_NAME: str = Field("retail_store", description="Name of the MySQL database.")
    SQL_USERNAME: str = Field("root", description="Account on the MySQL server.")
    SQL_PASSWORD: str = Field("", description="Password of that account.")
    SQL_DB_PORT: int = Field(3306, ge=1, le=65535, description="Port of the MySQL server.")
    REDIS_URL: str = Field("", description="The broker, `redis://...`. Empty: the embedded one that `make run` starts.")
    HOST: str = Field("127.0.0.1", min_length=1, description="Address the web server listens on.")
    PORT: int = Field(5000, ge=0, le=65535, description="Port the web server listens on.")
    DATA_DIR: Path = Field(Path("var"), description="Folder of the SQLite database and other files of the service.")
    STORAGE_URL: str = Field(
        "",
        description="Where files of images and results are kept: `file:///a/folder` (shared by all hosts) or "
        "`s3://bucket/prefix?endpoint=https://host&region=name`. Empty: `files` in `DATA_DIR`.",
    )
    AWS_ACCESS_KEY_ID: str = Field(
        "", description="Account on the S3 server. Empty: the role of the host, container or pod."
    )
    AWS_SECRET_ACCESS_KEY: str = Field("", description="Secret key of that account.")
    AWS_SESSION_TOKEN: str = Field("", description="Session token of that account, where it is a temporary one.")
    LOG_LEVEL: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="Least severity that is logged."
    )
    LOG_FORMAT: Literal["text", "json"] = Field("text", description="`text` for people, `json` for machines.")

    METRICS_TOKEN: str = Field("", description="What `GET /metrics` asks for, sent as `Authorization: Bearer ...`.")
    PROMETHEUS_MULTIPROC_DIR: str = Field(
        "",
        description="Folder in which the processes of one web server count their requests together; "
        "`deploy/gunicorn.conf.py` makes one.",
    )
    AUTH: Literal["open", "keys"] = Field(
        "open",
        description="Who may use it: `open`, whoever is on this host and nobody else; `keys`, whoever has an API key.",
    )
    SECRET_KEY: str = Field(
        "",
        description="Signs the cookies of people who log in, the same on all web hosts. Empty: made, and kept in "
        "`DATA_DIR`.",
    )
    TRUSTED_PROXIES: str = Field(
        "",
        description="Networks (CIDR, by comma) whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed, for a "
        "reverse proxy in front; `unix` for one that comes by a Unix socket.",
    )

    FLOWER_URL: str = Field("", description="Where Flower runs, for the control room to link to.")

    WEB_PROCESSES: int = Field(1, ge=1, le=64, description="Processes of a web server; as many as it has cores.")
    WEB_THREADS: int = Field(8, ge=1, le=256, description="Threads of a web process.")
    WORKER_PROCESSES: int = Field(2, ge=1, le=256, description="Worker processes started by `make run`.")
    WEB_DOORS: str = Field(
        "",
        description="Doors (by comma: `urls`, `batches`, `manifests`, `images`, `uploads`) that a web server serves, "
        "and no others. Empty: all.",
    )
    WORKER_SOURCES: str = Field(
        "",
        description="Doors (by comma, e.g. `manifests`) whose jobs a worker takes, and no others, by a queue of "
        "its own for each. Empty: all.",
    )
    WORKER_LANES: str = Field(
        "",
        description="Lanes (`plain`, `detector`) whose jobs a worker takes, and no others, by a queue of its own for "
        "each. Empty: all, and none waits for the other.",
    )
    WORKER_TASKS: str = Field(
        "",
        description="What a worker does (by comma: `images`, `reports`, the second with large tables, archives and "
        "mails), and nothing else. Empty: both, but with other doors than `uploads` or other lanes than `plain` images "
        "alone.",
    )
    LANE_PROCESSES: int = Field(
        1,
        ge=1,
        le=64,
        description="Child processes of one worker process for each lane but `plain`: in these the detector runs.",
    )
    SLOTS: int = Field(
        500, ge=1, le=10_000, description="Images in flight in one worker process (downloading or pausing)."
    )
    CHUNK_SIZE: int = Field(100, ge=1, le=1000, description="Most images that a worker claims in one piece.")
    LEASE_SECONDS: float = Field(
        60,
        ge=1,
        le=3600,
        description="How long a claim holds unless renewed; a dead worker's images start again after it.",
    )
    SLICE_SECONDS: float = Field(10, ge=0.1, le=300, description="How long one Celery task works before it rings anew.")
    FLUSH_SECONDS: float = Field(
        0.2, ge=0, le=5, description="Longest that a result waits for others to be written with."
    )
    RECOVER_SECONDS: float = Field(2, ge=0.1, le=60, description="Pause between two looks for work that was dropped.")
    GPU_PAUSE_MIN_SECONDS: float = Field(0.1, ge=0, le=60, description="Least pause an image, which stands for a GPU.")
    GPU_PAUSE_MAX_SECONDS: float = Field(0.4, ge=0, le=60, description="Most pause an image.")

    FETCH_DOWNLOADS: int = Field(64, ge=1, le=4096, description="Downloads at once in one worker process.")
    FETCH_TIMEOUT_SECONDS: float = Field(
        30, gt=0, le=600, description="Most time for one image: lookup, redirects, body."
    )
    FETCH_CONNECT_TIMEOUT_SECONDS: float = Field(5, gt=0, le=600, description="Most time to connect.")
    FETCH_MAX_BYTES: int = Field(32 * 1024 * 1024, ge=1, description="Largest image in bytes; read no further.")
    FETCH_MAX_REDIRECTS: int = Field(5, ge=0, le=30, description="Most redirects an image.")
    FETCH_MAX_URL_BYTES: int = Field(8192, ge=2048, le=65_000, description="Longest URL in bytes.")
    FETCH_ALLOWED_NETWORKS: str = Field(
        "",
        description="Networks (CIDR, by comma) that images may come from, and webhooks go to, although "
        "they are private or special, e.g. `10.20.0.0/16`.",
    )
    FETCH_CA_BUNDLE: str = Field("", description="PEM file of certificate authorities to trust beside the public ones.")
    RETRY_ATTEMPTS: int = Field(3, ge=1, le=20, description="Most attempts an image whose failure may pass.")
    RETRY_BASE_SECONDS: float = Field(
        1, ge=0, le=3600, description="Wait before the second attempt; it grows fourfold each time, with jitter."
    )
    RETRY_MAX_SECONDS: float = Field(
        60,
        ge=0,
        le=86_400,
        description="Longest wait before an attempt, also where a host asks for more by Retry-After.",
    )
    IMAGE_FORMATS: str = Field(IMAGE_FORMATS, description="Formats that are read, by Pillow's names.")
    IMAGE_MAX_PIXELS: int = Field(100_000_000, ge=1, description="Largest image in pixels (width times height).")

    DECODE_PROCESSES: int = Field(
        2, ge=1, le=64, description="Child processes of one worker process in which pixels are decoded."
    )
    DECODE_TIMEOUT_SECONDS: int = Field(
        10,
        ge=1,
        le=600,
        description="Most processor time for an image's pixels, and for each processor on it; three times that by the "
        "clock.",
    )
    DECODE_MAX_MEMORY_MB: int = Field(
        1024, ge=256, le=65_536, description="Most memory (address space) of such a child, in megabytes."
    )

    WEBHOOK_TIMEOUT_SECONDS: float = Field(15, gt=0, le=60, description="Most time for a webhook's receiver to answer.")
    WEBHOOK_SENDS: int = Field(32, ge=1, le=512, description="Webhook messages on their way at once.")
    WEBHOOK_SENDS_A_HOST: int = Field(8, ge=1, le=512, description="... to one host; to one that fails, a single one.")
    WEBHOOK_ATTEMPTS: int = Field(12, ge=1, le=100, description="Most attempts a webhook message.")
    WEBHOOK_RETRY_BASE_SECONDS: float = Field(
        5, ge=0, le=3600, description="Wait before its second attempt; it grows fourfold each time, with jitter."
    )
    WEBHOOK_RETRY_MAX_SECONDS: float = Field(
        14_400,
        ge=0,
        le=86_400,
        description="Longest wait before an attempt. By default the last is after some 22 hours.",
    )
    WEBHOOK_KEEP_DAYS: float = Field(30, gt=0, description="How long what was sent, and what came of it, is kept.")
    EXPORT_KEEP_DAYS: float = Field(7, gt=0, description="How long Excel files that a worker built are kept.")
    DETECTOR_MODEL: str = Field(
        "", description="ONNX file of the detector, see `docs/detection.md`. Empty: the small one that is shipped."
    )
    DETECTOR_THRESHOLD: float = Field(0.4, ge=0.01, le=1, description="Least score of a detection that is kept.")
    DETECTOR_BATCH: int = Field(8, ge=1, le=256, description="Images that go through the detector at once.")
    DETECTOR_THREADS: int = Field(1, ge=1, le=64, description="Threads of the detector in each of its processes.")
    DETECTOR_LABEL_FONT: str = Field(
        "",
        description="Font file for labels on annotated photos, asked first. Empty: Noto Sans, and for Chinese, "
        "Japanese and Korean a font of the system.",
    )

    JOB_MAX_IMAGES: int = Field(200_000, ge=1, description="Most images a job; past it 413.")
    BODY_MAX_BYTES: int = Field(64 * 1024 * 1024, ge=1024, description="Largest request body in bytes; past it 413.")
    RETENTION_DAYS: float = Field(
        0, ge=0, description="How long jobs that ended are kept with their results and files; 0: for good."
    )
    UPLOAD_EMAIL_REQUIRED: bool = Field(False, description="Whether the upload page demands an e-mail address.")
    PUBLIC_URL: str = Field(
        "", description="Address of this service as people reach it, `https://photos.example`, for links in mails."
    )
    SMTP_HOST: str = Field("", description="Mail server for mails to people who upload. Empty: none are sent.")
    SMTP_PORT: int = Field(587, ge=1, le=65535, description="Port of the mail server.")
    SMTP_SECURITY: Literal["none", "starttls", "tls"] = Field(
        "starttls", description="How the connection to the mail server is secured: `starttls`, `tls` or `none`."
    )
    SMTP_USER: str = Field("", description="Account on the mail server, where it asks for one.")
    SMTP_PASSWORD: str = Field("", description="Password of that account.")
    SMTP_FROM: str = Field("", description="Address that mails come from, e.g. `photos@example.com`.")
    SMTP_CA_BUNDLE: str = Field("", description="PEM file of authorities to trust for the mail server.")
    QUEUE_MAX_IMAGES: int = Field(
        2_000_000, ge=1, description="Most images without a result, over all jobs; past it new jobs are answered 503."
    )
    QUEUE_MAX_IMAGES_OF_OWNER: int = Field(
        0, ge=0, description="The same for the jobs of one owner of keys; 0: no bound of its own."
    )
    RATE_LIMIT: str = Field(
        "6000/minute",
        description="Most requests of one key, as `100/second`, `6000/minute` or `100000/hour`; past it 429. `off`: no "
        "limit. None of the two holds with `AUTH=open`.",
    )
    RATE_LIMIT_NO_KEY: str = Field(
        "300/minute", description="Most requests of one address that come without a valid key, in the same words."
    )
    UPLOAD_MAX_BYTES: int = Field(
        2 * 1024 * 1024 * 1024,
        ge=1024,
        description="Largest body that brings images, in bytes; it is read piece by piece. Past it 413. The same for "
        "all that one submission of the upload page holds, its archives also unpacked.",
    )
    UPLOAD_MAX_FILES: int = Field(2_000, ge=1, description="Most images in one such body; past it 413.")
    FILES_LINK_SECONDS: float = Field(
        0,
        ge=0,
        le=604_800,
        description="With S3: lead downloads to the bucket by links that hold so long. 0: pass files on.",
    )
    FILES_NGINX_LOCATION: str = Field(
        "",
        description="With a folder: have nginx send files, by `X-Accel-Redirect` to this internal location of its own, "
        "`/stored/` with the one in `deploy/nginx/`.",
    )
    FILES_ORPHAN_HOURS: float = Field(
        24, ge=1, description="Files that no image names are removed when they are this old."
    )
    MANIFEST_DIR: str = Field(
        "",
        description="Folder in which `filepath` of a manifest is looked up, and nowhere else; or a prefix of a bucket, "
        "in the words of `STORAGE_URL`. Empty: `manifests` in `DATA_DIR`.",
    )
    MANIFEST_MAX_BYTES: int = Field(
        256 * 1024 * 1024, ge=1024, description="Longest manifest in bytes, unpacked; past it 413."
    )
    MANIFEST_MAX_WAITED_ROWS: int = Field(
        10_000, ge=1, description="Most rows of a manifest whose answer is waited for (`images_info`); past it 413."
    )
    RESULTS_REDIS_URL: str = Field(
        "", description="Redis with the lists `queue:images` and `queue:batch`. Empty: the broker."
    )
    RESULTS_QUEUE_MAX: int = Field(
        10_000,
        ge=1,
        description="Most images on each of these lists; while nobody takes any off, the rest waits in the database.",
    )
    MANIFEST_WAIT_SECONDS: float = Field(
        600, gt=0, le=86_400, description="How long `images_info` waits for its images; those still open time out."
    )
    IDEMPOTENCY_HOURS: float = Field(48, gt=0, description="How long an Idempotency-Key is remembered.")

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None, **overrides: Any) -> Self:
        """Read the settings from ``environ`` (the process's by default); an empty value counts as unset.

        ``NAME_FILE`` names a file with the value of NAME in place of the value, as secrets are handed to containers
        and systemd units. Raises SettingError with one sentence that names each bad setting.
        """
        environ = os.environ if environ is None else environ
        found = {name: value for name in cls.model_fields if (value := _value_of(name, environ)).strip()}
        try:
            return cls(**(found | overrides))
        except ValidationError as error:
            raise SettingError("; ".join(_sentence(problem) for problem in error.errors())) from error

    @field_validator("DATABASE_URL")
    @classmethod
    def _is_known_database(cls, value: str) -> str:
        if not value:
            return value
        try:
            driver = make_url(value).drivername
        except ArgumentError:
            raise ValueError("not a database URL") from None
        if driver not in ("mysql+pymysql", "sqlite", "sqlite+pysqlite"):
            raise ValueError(f"speaks {driver}, must begin with mysql+pymysql:// or sqlite:///")
        return value

    @field_validator("STORAGE_URL")
    @classmethod
    def _is_storage(cls, value: str) -> str:
        if value:
            storage.check(value)
        return value

    @field_validator("MANIFEST_DIR")
    @classmethod
    def _is_folder_or_bucket(cls, value: str) -> str:
        if value.startswith("s3:"):
            storage.check(value)
        return value

    @field_validator("FILES_NGINX_LOCATION")
    @classmethod
    def _is_location(cls, value: str) -> str:
        if value and not re.fullmatch(r"(/[A-Za-z0-9_-]+)+/", value):
            raise ValueError("must begin and end with a slash, e.g. /stored/")
        return value

    @field_validator("FLOWER_URL")
    @classmethod
    def _is_link(cls, value: str) -> str:
        if value and not value.startswith(("http://", "https://", "/")):
            raise ValueError("must begin with http://, https:// or /")
        return value

    @field_validator("REDIS_URL", "RESULTS_REDIS_URL")
    @classmethod
    def _is_redis(cls, value: str) -> str:
        if value and not value.startswith(("redis://", "rediss://", "redis+socket://")):
            raise ValueError("must begin with redis://, rediss:// or redis+socket://")
        return value

    @field_validator("FETCH_ALLOWED_NETWORKS")
    @classmethod
    def _are_networks(cls, value: str) -> str:
        for network in _listed(value):
            ipaddress.ip_network(network)
        return value

    @field_validator("TRUSTED_PROXIES")
    @classmethod
    def _are_networks_or_unix(cls, value: str) -> str:
        for network in _listed(value):
            if network != "unix":
                ipaddress.ip_network(network)
        return value

    @field_validator("WORKER_TASKS")
    @classmethod
    def _are_tasks(cls, value: str) -> str:
        if unknown := [task for task in _listed(value) if task not in WORKER_TASKS]:
            raise ValueError(f"there is no task {', '.join(unknown)}; known are {', '.join(WORKER_TASKS)}")
        return value

    @field_validator("RATE_LIMIT", "RATE_LIMIT_NO_KEY")
    @classmethod
    def _is_rate(cls, value: str) -> str:
        _rate(value)
        return value

    @field_validator("SECRET_KEY")
    @classmethod
    def _cannot_be_guessed(cls, value: str) -> str:
        if value and len(value) < 32:
            raise ValueError("must have 32 characters or more, drawn at random")
        return value

    @field_validator("PUBLIC_URL")
    @classmethod
    def _is_web_address(cls, value: str) -> str:
        if value and not value.startswith(("http://", "https://")):
            raise ValueError("must begin with https:// or http://")
        return value

    @field_validator("FETCH_CA_BUNDLE", "SMTP_CA_BUNDLE", "DETECTOR_MODEL")
    @classmethod
    def _is_file(cls, value: str) -> str:
        if value and not Path(value).is_file():
            raise ValueError("there is no such file")
        return value

    @field_validator("IMAGE_FORMATS")
    @classmethod
    def _are_formats(cls, value: str) -> str:
        unknown = set(_listed(value)) - {*_listed(IMAGE_FORMATS), "AVIF", "ICO", "JPEG2000", "PPM", "TGA"}
        if unknown or not _listed(value):
            raise ValueError(f"cannot read {', '.join(sorted(unknown)) or 'nothing'}")
        return value

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.GPU_PAUSE_MIN_SECONDS > self.GPU_PAUSE_MAX_SECONDS:
            raise ValueError("GPU_PAUSE_MIN_SECONDS is more than GPU_PAUSE_MAX_SECONDS")
        if self.SMTP_HOST and not (self.SMTP_FROM and self.PUBLIC_URL):
            raise ValueError("SMTP_HOST is set: SMTP_FROM and PUBLIC_URL must be, too")
        if min(self.QUEUE_MAX_IMAGES, self.QUEUE_MAX_IMAGES_OF_OWNER or self.QUEUE_MAX_IMAGES) < self.JOB_MAX_IMAGES:
            raise ValueError("QUEUE_MAX_IMAGES is less than JOB_MAX_IMAGES: such a job could never be taken")
        if self.AUTH == "open" and not _is_of_this_host(self.HOST):
            raise ValueError(f"AUTH=open serves this host only, and HOST={self.HOST} listens to others: set AUTH=keys")
        return self

    @property
    def database_url(self) -> str:
        """The database that is used, whichever way it was named."""
        if self.DATABASE_URL:
            return self.DATABASE_URL
        if self.SQL_DB_HOST:
            account = f"{quote(self.SQL_USERNAME, safe='')}:{quote(self.SQL_PASSWORD, safe='')}"
            return f"mysql+pymysql://{account}@{self.SQL_DB_HOST}:{self.SQL_DB_PORT}/{self.SQL_DB_NAME}?charset=utf8mb4"
        return f"sqlite:///{self.DATA_DIR.resolve() / 'imagejobs.db'}"

    @property
    def storage_url(self) -> str:
        return self.STORAGE_URL or (self.DATA_DIR.resolve() / "files").as_uri()

    @property
    def web_doors(self) -> tuple[str, ...]:
        return tuple(_listed(self.WEB_DOORS))

    @property
    def worker_sources(self) -> tuple[str, ...]:
        return tuple(_listed(self.WORKER_SOURCES))

    @property
    def worker_lanes(self) -> tuple[str, ...]:
        return tuple(_listed(self.WORKER_LANES))

    @property
    def worker_tasks(self) -> tuple[str, ...]:
        return tuple(_listed(self.WORKER_TASKS))

    @property
    def manifest_dir(self) -> Path:
        return Path(self.MANIFEST_DIR) if self.MANIFEST_DIR else self.DATA_DIR / "manifests"

    @property
    def takes_images(self) -> bool:
        """Whether a worker works on images at all."""
        return not self.worker_tasks or "images" in self.worker_tasks

    @property
    def builds_reports(self) -> bool:
        """Whether a worker opens archives, builds reports and sends mails, beside images or alone."""
        if self.worker_tasks:
            return "reports" in self.worker_tasks
        is_for_uploads = not self.worker_sources or "uploads" in self.worker_sources
        return is_for_uploads and (not self.worker_lanes or "plain" in self.worker_lanes)

    @property
    def allowed_networks(self) -> tuple[str, ...]:
        return tuple(_listed(self.FETCH_ALLOWED_NETWORKS))

    @property
    def auth_sentence(self) -> str:
        """What is said at the start."""
        if self.AUTH == "keys":
            return "AUTH=keys: every request needs an API key (imagejobs keys create)"
        return "AUTH=open: requests from this host are served and need no key, all others are refused"

    @property
    def rate_of_a_key(self) -> tuple[int, int] | None:
        """Most requests, in so many seconds; None: as many as they like."""
        return _rate(self.RATE_LIMIT)

    @property
    def rate_without_key(self) -> tuple[int, int] | None:
        return _rate(self.RATE_LIMIT_NO_KEY)

    @property
    def trusted_proxies(self) -> tuple[str, ...]:
        return tuple(_listed(self.TRUSTED_PROXIES))

    @property
    def image_formats(self) -> tuple[str, ...]:
        return tuple(_listed(self.IMAGE_FORMATS))


def _is_of_this_host(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _value_of(name: str, environ: Mapping[str, str]) -> str:
    value, file = environ.get(name, ""), environ.get(f"{name}_FILE", "")
    if not file.strip():
        return value
    if value.strip():
        raise SettingError(f"{name} and {name}_FILE are both set: choose one")
    try:
        return Path(file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a text in UTF-8"
        raise SettingError(f"{name}_FILE={file!r}: {(reason or 'cannot be read').lower()}") from error


def _rate(value: str) -> tuple[int, int] | None:
    if value.strip() == "off":
        return None
    most, _, unit = value.partition("/")
    if not most.strip().isdecimal() or not int(most) or unit.strip() not in SECONDS:
        raise ValueError("must be like 100/second, 6000/minute or 100000/hour, or off")
    return int(most), SECONDS[unit.strip()]


def _listed(value: str) -> list[str]:
    return [part.strip() for part in value.split(",") if part.strip()]


def _sentence(problem: Any) -> str:
    reason = str(problem["msg"]).removeprefix("Value error, ")
    if not problem["loc"]:
        return reason
    name = problem["loc"][0]
    is_secret = any(word in name for word in ("PASSWORD", "URL", "SECRET", "TOKEN"))
    shown = "(hidden)" if is_secret else repr(problem["input"])
    return f"{name}={shown}: {reason[0].lower()}{reason[1:]}"


def without_settings(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """The process's environment for others that are not to have our passwords: all but our settings."""
    environ = os.environ if environ is None else environ
    return {name: value for name, value in environ.items() if name not in Settings.model_fields}

"""``imagejobs manifest``: a list of ids and URLs becomes a job."""

from __future__ import annotations

import hashlib
import sys
import uuid
from typing import BinaryIO

import click
from urllib3.filepost import encode_multipart_formdata

from app.cli import watching
from app.cli.client import finish
from app.cli.options import tell, with_job_options
from app.cli.services import Service, with_service


@click.command("manifest")
@click.argument("file", type=click.File("rb"))
@click.option("--queue", type=click.Choice(["images", "batch"]), help="Tell of its images on this list of Redis.")
@click.option("--batch-size", type=click.IntRange(1, 1024), help="Tensors in an entry of the list batch.")
@click.option("--dtype", type=click.Choice(["uint8", "float32"]), help="Of tensors; uint8 unless given.")
@click.option("--encoding", type=click.Choice(["json", "base64"]), help="Of tensors; json unless given.")
@with_job_options
@click.option("--watch", is_flag=True, help="Follow the job to its end; exit with 1 if it failed.")
@click.option("--idempotency-key", help="Name this manifest: the same key never makes a second job.")
@with_service
def manifest_command(
    service: Service,
    file: BinaryIO,
    queue: str | None,
    watch: bool,
    idempotency_key: str | None,
    asked: dict[str, str],
    **batch: str | int | None,
) -> None:
    """Make a job of the ids and URLs in FILE and print its id; `imagejobs results` saves what comes of it.

    FILE is a TSV or CSV with the columns id and url, or JSON lines, perhaps with gzip; - reads standard input.
    """
    given = {name: str(value) for name, value in batch.items() if value is not None}
    if given and queue != "batch":
        raise click.UsageError("--batch-size, --dtype and --encoding are for --queue batch")
    if queue == "batch" and "batch_size" not in given:
        raise click.UsageError("--queue batch needs a --batch-size")
    manifest = file.read()
    # The same manifest is the same body, whenever it is sent: an Idempotency-Key is held to that.
    boundary = hashlib.sha256(manifest).hexdigest()
    body, kind = encode_multipart_formdata({**asked, **given, "file": ("manifest", manifest)}, boundary)
    # Without a batch size batch_predict queues nothing.
    path = "/api/v1/images_info_async/" if queue == "images" else "/api/v1/batch_predict/"
    job = tell(service.post_form(path, body, kind, idempotency_key=idempotency_key or uuid.uuid4().hex))
    if watch:
        sys.stdout.flush()
        finish(watching.follow(service, job))

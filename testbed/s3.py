"""A throwaway S3 server (SeaweedFS) on free ports, which checks signatures and forgets everything when it ends."""

from __future__ import annotations

import json
import sys
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlencode

import obstore
import obstore.exceptions
import requests
from obstore.store import S3Store

from testbed.processes import free_port
from testbed.server import Server, program

REGION = "us-east-1"
ACCESS_KEY, SECRET_KEY = "testbed", "testbed-secret/with+odd=letters"


class S3(Server):
    """One server with one bucket. It has no way to end within seconds but ``kill``."""

    kind = "S3"
    start_seconds = 60.0

    def __init__(self, bucket: str = "files") -> None:
        super().__init__()
        self.bucket = bucket
        accounts = {
            "identities": [
                {
                    "name": "testbed",
                    "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
                    "actions": ["Admin", "Read", "Write", "List", "Tagging"],
                }
            ]
        }
        (self.folder / "accounts.json").write_text(json.dumps(accounts))
        weed = program("weed", of="it comes with requirements-dev.txt", also_in=Path(sys.executable).parent)
        self._command(self._argv(weed))

    def _argv(self, weed: str) -> list[str]:
        """Every port is named: those left out are fixed ones, which a second server would find taken."""
        ports = {
            "-master.port": free_port(),
            "-master.port.grpc": free_port(),
            "-volume.port": free_port(),
            "-volume.port.grpc": free_port(),
            "-filer.port": free_port(),
            "-filer.port.grpc": free_port(),
            "-s3.port": self.port,
            "-s3.port.grpc": free_port(),
            "-s3.port.iceberg": 0,
            "-s3.port.lance": 0,
        }
        options = ["-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.telemetry=false", f"-dir={self.folder}"]
        options += ["-volume.max=5", "-master.volumeSizeLimitMB=64", "-filer", "-s3"]
        options += [f"-s3.config={self.folder}/accounts.json", "-s3.allowEmptyFolder=false", "-s3.iam=false"]
        return [weed, "server", *options, *(f"{name}={port}" for name, port in ports.items())]

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def url(self, prefix: str = "") -> str:
        """What STORAGE_URL says of it."""
        return f"s3://{self.bucket}/{prefix}?" + urlencode({"endpoint": self.endpoint, "region": REGION})

    def store(self) -> S3Store:
        """A client of the bucket that is not the service's own."""
        return S3Store(
            self.bucket,
            endpoint=self.endpoint,
            region=REGION,
            access_key_id=ACCESS_KEY,
            secret_access_key=SECRET_KEY,
            client_options={"allow_http": True},
        )

    def find(self) -> set[str]:
        """All that lies in the bucket."""
        return {entry["path"] for entries in obstore.list(self.store()) for entry in entries}

    def _is_answering(self) -> bool:
        """Whether it takes files: the gateway answers well before there is a place to put them."""
        try:
            made = requests.put(self._signed_bucket(), timeout=5)
            if made.status_code != 409:  # it is there from before the server was killed
                made.raise_for_status()
            obstore.put(self.store(), "started", b"1")
            obstore.delete(self.store(), "started")
        except (requests.RequestException, obstore.exceptions.BaseError):
            return False
        return True

    def _signed_bucket(self) -> str:
        """The address that makes the bucket: obstore only knows files, so the bucket is signed as one of no bucket."""
        host = S3Store(
            bucket=self.bucket,
            endpoint=f"{self.endpoint}/{self.bucket}",
            virtual_hosted_style_request=True,
            region=REGION,
            access_key_id=ACCESS_KEY,
            secret_access_key=SECRET_KEY,
            client_options={"allow_http": True},
        )
        return obstore.sign(host, "PUT", "", timedelta(minutes=1))

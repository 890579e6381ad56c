"""A receiver of webhooks that misbehaves on demand, and keeps what it was sent."""

from __future__ import annotations

import json
import re
import socket
import ssl
import threading
from dataclasses import dataclass
from typing import Any

from testbed.scripted import ScriptedServer

_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)", re.IGNORECASE)


@dataclass(frozen=True)
class Message:
    """One POST as it came: its path, its headers by lower-case name, its body."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Receiver(ScriptedServer):
    """Paths are ScriptedServer's; ``/hook`` answers 200, or what ``script`` says next: paths, each for one message."""

    def __init__(self, address: str = "127.0.0.2", port: int = 0, *, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(address, port, tls=tls)
        self.messages: list[Message] = []
        self.script: list[str] = []
        self._taking = threading.Lock()

    @property
    def ids(self) -> list[str]:
        return [message.id for message in self.messages]

    def of_type(self, kind: str) -> list[Message]:
        return [message for message in self.messages if message.json["type"] == kind]

    def _take(self, connection: socket.socket, head: bytes, rest: bytes) -> str:
        found = _LENGTH.search(head)
        missing = (int(found[1]) if found else 0) - len(rest)
        while missing > 0 and (piece := connection.recv(65536)):
            rest, missing = rest + piece, missing - len(piece)
        line, *fields = head.decode("latin-1").split("\r\n")
        headers = {name.strip().lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)}
        path = line.split(" ")[1]
        with self._taking:
            self.messages.append(Message(path, headers, rest))
            return self.script.pop(0) if path.startswith("/hook") and self.script else path

    def _serve_hook(self, connection: socket.socket, _arguments: dict[str, str]) -> bool:
        return self._reply(connection, "200 OK", b"thanks")

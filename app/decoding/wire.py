"""What a child and its parent say to each other: a JSON text behind its length, then bodies whose lengths it names."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Sequence
from typing import Any, BinaryIO

_LENGTH = struct.Struct(">I")


def send(link: socket.socket, message: Any, bodies: Sequence[bytes] = ()) -> None:
    """Raises OSError where nobody listens."""
    text = json.dumps(message, ensure_ascii=False).encode()
    link.sendall(_LENGTH.pack(len(text)) + text)
    for body in bodies:
        link.sendall(body)


def receive(stream: BinaryIO) -> Any:
    """The next message. Raises EOFError where there is none: the other side has ended."""
    (length,) = _LENGTH.unpack(read(stream, _LENGTH.size))
    return json.loads(read(stream, length))


def read(stream: BinaryIO, length: int) -> bytes:
    """Exactly so many bytes. Raises EOFError."""
    data = stream.read(length)
    if data is None or len(data) < length:
        raise EOFError
    return data

"""A TCP proxy in front of a MySQL server that cuts connections at the worst moment: at the COMMIT."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from types import TracebackType
from typing import Literal, Self

COMMIT = b"\x07\x00\x00\x00\x03COMMIT"  # the packet: length, number, "query", text
READ_BYTES = 65536

When = Literal["before", "after"]


class Proxy:
    """Listens on ``port`` of 127.0.0.1 while the block runs; its methods may be called by any thread.

    ``cut(when)`` arms it: the next COMMIT of a transaction that has sent ``marker`` is not passed on (``before``), or
    is passed on and its answer is not (``after``); either way the connection is gone. ``cuts`` counts what happened.
    """

    def __init__(self, target_port: int, *, marker: bytes = b"") -> None:
        self._target_port = target_port
        self._marker = marker
        self._armed: list[When] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self.cuts: Counter[str] = Counter()
        self.port = 0

    def cut(self, when: When) -> None:
        self._armed.append(when)

    def __enter__(self) -> Self:
        self._thread.start()
        starting = asyncio.start_server(self._connected, "127.0.0.1", 0)
        server = asyncio.run_coroutine_threadsafe(starting, self._loop).result(10)
        self.port = server.sockets[0].getsockname()[1]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._cancel_all(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _cancel_all(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            server = await asyncio.open_connection("127.0.0.1", self._target_port)
        except OSError:
            writer.close()
            return
        link = _Link(self, client=(reader, writer), server=server)
        ways = [asyncio.create_task(link.to_server()), asyncio.create_task(link.to_client())]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            writer.transport.abort()
            server[1].transport.abort()

    def take_cut(self) -> When | None:
        if not self._armed:
            return None
        when = self._armed.pop(0)
        self.cuts[when] += 1
        return when

    @property
    def marker(self) -> bytes:
        return self._marker


class _Link:
    """One client's connection; it ends when either way of it returns."""

    def __init__(
        self,
        proxy: Proxy,
        *,
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        server: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        self._proxy = proxy
        self._client, self._server = client, server
        self._is_marked = False
        self._ends_at_answer = False

    async def to_server(self) -> None:
        while data := await self._client[0].read(READ_BYTES):
            self._is_marked = self._is_marked or self._proxy.marker in data
            if data.endswith(COMMIT) and self._is_marked:
                self._is_marked = False
                when = self._proxy.take_cut()
                if when == "before":
                    return
                self._ends_at_answer = when == "after"
            self._server[1].write(data)
            await self._server[1].drain()

    async def to_client(self) -> None:
        while data := await self._server[0].read(READ_BYTES):
            if self._ends_at_answer:
                return
            self._client[1].write(data)
            await self._client[1].drain()

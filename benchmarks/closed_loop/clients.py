"""One request and its whole answer, over HTTP, PostgreSQL's and Redis' own protocols."""

from __future__ import annotations

import asyncio
import struct
from abc import ABC, abstractmethod


class Client(ABC):
    """A connection that sends one request at a time."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def __init__(self, port: int) -> None:
        self.port = port

    async def connect(self) -> None:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)

    @abstractmethod
    async def ask(self, units: int) -> bool:
        """Send a request of so many units of work; whether its answer was a success."""

    def close(self) -> None:
        self.writer.close()


class Http(Client):
    async def ask(self, units: int) -> bool:
        self.writer.write(f"GET /work/{units} HTTP/1.1\r\nHost: bench\r\nAccept-Encoding: gzip\r\n\r\n".encode())
        head = (await self.reader.readuntil(b"\r\n\r\n")).lower()
        if b"transfer-encoding: chunked" in head:
            while size := int((await self.reader.readline()).split(b";")[0], 16):
                await self.reader.readexactly(size + 2)
            await self.reader.readline()
        else:
            await self.reader.readexactly(int(head.split(b"content-length:", 1)[1].split(b"\r\n", 1)[0]))
        return head[9:12] == b"200"


class Postgres(Client):
    """Simple queries over pgbench's own table, without a password (trust on loopback)."""

    async def connect(self) -> None:
        await super().connect()
        body = struct.pack("!I", 196608) + b"user\0postgres\0database\0postgres\0\0"
        self.writer.write(struct.pack("!I", len(body) + 4) + body)
        await self._until_ready()

    async def ask(self, units: int) -> bool:
        text = f"SELECT sum(abalance) FROM pgbench_accounts WHERE aid BETWEEN 1 AND {units * 13000}".encode() + b"\0"
        self.writer.write(b"Q" + struct.pack("!I", len(text) + 4) + text)
        return await self._until_ready()

    async def _until_ready(self) -> bool:
        well = True
        while True:
            kind, size = struct.unpack("!cI", await self.reader.readexactly(5))
            await self.reader.readexactly(size - 4)
            well = well and kind != b"E"
            if kind == b"Z":
                return well
            if kind == b"E":
                raise OSError("PostgreSQL refused")


class Redis(Client):
    """SORT over lists of different length; the answer is one element."""

    async def ask(self, units: int) -> bool:
        self.writer.write(f"SORT list{units} LIMIT 0 1\r\n".encode())
        if not (await self.reader.readline()).startswith(b"*1"):
            return False
        size = int((await self.reader.readline())[1:])
        await self.reader.readexactly(size + 2)
        return True

    async def fill(self, units: int, elements: int) -> None:
        """A list with as many numbers as make `units` of work."""
        for begin in range(0, elements, 500):
            values = " ".join(str(number * 7919 % 104729) for number in range(begin, min(elements, begin + 500)))
            self.writer.write(f"RPUSH list{units} {values}\r\n".encode())
            await self.reader.readline()

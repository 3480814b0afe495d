"""A backend that answers creates after a delay, or never; prints its port. A process of its own, started by others."""

from __future__ import annotations

import asyncio
import json
import sys

DELAY = None if sys.argv[1] == "hang" else float(sys.argv[1])
facts = {"requests": 0}


def answer(path: str, body: bytes) -> object:
    """Return what a request is answered with."""
    if path == "/facts":
        return facts
    sent = json.loads(body)
    moment = "2026-11-29T09:00:00.000+00:00"
    system = {"$id": sent["rowId"], "$sequence": "1", "$createdAt": moment, "$updatedAt": moment}
    return {**sent["data"], **system, "$permissions": [], "$databaseId": "d", "$tableId": "t"}


async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Serve one connection."""
    try:
        while line := await reader.readline():
            path, length = line.split(b" ")[1].decode(), 0
            while (head := await reader.readline()) not in (b"\r\n", b""):
                if head.lower().startswith(b"content-length:"):
                    length = int(head.partition(b":")[2])
            body = await reader.readexactly(length)
            if path != "/facts":
                facts["requests"] += 1
                if DELAY is None:
                    await reader.read()  # until the client goes
                    return
                await asyncio.sleep(DELAY)
            raw = json.dumps(answer(path, body)).encode()
            status = b"HTTP/1.1 201 X\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(raw)
            writer.write(status + raw)
            await writer.drain()
    except (OSError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.close()


async def main() -> None:
    """Listen."""
    server = await asyncio.start_server(talk, "127.0.0.1", 0, backlog=512)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


asyncio.run(main())

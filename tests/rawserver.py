"""A server of raw sockets that answers each connection as a script says: what a real backend does wrong."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time

ROW = {
    "$id": "r1",
    "$sequence": "1",
    "$tableId": "t",
    "$databaseId": "d",
    "$createdAt": "2026-11-23T09:00:00.000+00:00",
    "$updatedAt": "2026-11-23T09:00:00.000+00:00",
    "$permissions": [],
    "slot": "S",
}


def answer(status, body=b"", content_type="application/json", **headers):
    """Return the bytes of an answer; a body that is no bytes is turned into JSON."""
    if not isinstance(body, bytes):
        body = json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}"]
    lines += [] if content_type is None else [f"Content-Type: {content_type}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def failure(status, kind=None, message="Server Error", **headers):
    """Return the bytes of an answer with Appwrite's body of an error."""
    body = {"message": message, "code": status, "version": "1.9.6"}
    return answer(status, body if kind is None else {**body, "type": kind}, **headers)


CREATED = answer(201, ROW)


class RawServer:
    """Serves each request by the next step of a script, the last one again and again.

    A step is bytes to send (None closes without an answer), or a function of the connection. Requests are kept whole.
    """

    def __init__(self, *steps, wrap=None, keep_alive=True, host="127.0.0.1"):
        self.steps = list(steps) or [CREATED]
        self.requests = []
        self.connections = 0
        self.released = threading.Event()
        self._keep_alive = keep_alive
        self._wrap = wrap or (lambda sock: sock)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, 0), family=family)
        self.port = self._listener.getsockname()[1]
        self.endpoint = f"http://{f'[{host}]' if ':' in host else host}:{self.port}/v1"
        self._open = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]

    def __enter__(self):
        self._threads[0].start()
        return self

    def __exit__(self, *_):
        self.released.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for sock in self._open:
            _ignoring(lambda sock=sock: sock.shutdown(socket.SHUT_RDWR))
        for thread in self._threads:
            thread.join(5)

    def _accept(self):
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(sock)
            thread = threading.Thread(target=self._serve, args=(sock,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, raw):
        try:
            sock = self._wrap(raw)
        except OSError:
            raw.close()
            return
        try:
            while request := read_request(sock):
                self.requests.append(request)
                step = self.steps.pop(0) if len(self.steps) > 1 else self.steps[0]
                if step is None:
                    return
                if callable(step):
                    step(sock, self)
                    return
                sock.sendall(step)
                if not self._keep_alive:
                    return
        except OSError:
            pass
        finally:
            sock.close()


def head_of(request):
    """Return the request line of a request, and its headers by their names in small letters."""
    line, *fields = request.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
    return line, {name.lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)}


def body_of(request):
    """Return what the JSON of a request's body holds; None without a body."""
    body = request.partition(b"\r\n\r\n")[2]
    return json.loads(body) if body else None


def read_request(sock):
    """Read one request to its end; None if there is none."""
    data = b""
    while b"\r\n\r\n" not in data:
        chunk = sock.recv(65536)
        if not chunk:
            return None
        data += chunk
    head, _, body = data.partition(b"\r\n\r\n")
    length = next((int(x.split(b":")[1]) for x in head.lower().split(b"\r\n") if x.startswith(b"content-length")), 0)
    is_chunked = b"transfer-encoding: chunked" in head.lower()
    while len(body) < length or (is_chunked and not body.endswith(b"0\r\n\r\n")):
        chunk = sock.recv(65536)
        if not chunk:
            return None
        body += chunk
    return head + b"\r\n\r\n" + body


def reset(sock, _):
    """End the connection with a RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def hang(_, server):
    """Send nothing until the server ends."""
    server.released.wait(10)


def cut(data, *, with_reset=False):
    """Return a step that sends the beginning of an answer and ends the connection."""

    def step(sock, server):
        sock.sendall(data)
        if with_reset:
            time.sleep(0.02)  # a RST that overtakes the data would be a reset before the answer
            reset(sock, server)

    return step


def drip(data, pause):
    """Return a step that sends an answer byte by byte."""

    def step(sock, server):
        for index in range(len(data)):
            if server.released.wait(pause):
                return
            sock.sendall(data[index : index + 1])

    return step


def _ignoring(do):
    try:
        do()
    except OSError:
        pass

"""A web server on this machine that gives files in parts, counts what it gives, and fails when told to."""

from __future__ import annotations

import re
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclass
class Server:
    """A running server.

    Attributes:
        address: what the folder is called on the web.
        given: bytes of content that were sent, by file name.
        asked: requests, by file name.
        status: answers other than the file: a status for a file name, or 0 for no answer at all.
    """

    address: str
    given: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    asked: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    status: dict[str, int] = field(default_factory=dict)
    stopped: threading.Event = field(default_factory=threading.Event)


@contextmanager
def serve(folder: Path) -> Iterator[Server]:
    """Serve the files of a folder on a free port."""
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def answer(self, body: bool) -> None:
            name = self.path.lstrip("/").partition("?")[0]
            with lock:
                server.asked[name] += 1
            status = server.status.get(name)
            if status == 0:
                server.stopped.wait(60)
                self.close_connection = True
                return
            path = folder / name
            if status is not None or not path.is_file():
                self.send_response(status or 404)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            content = path.read_bytes()
            first, last = 0, len(content) - 1
            part = re.match(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
            if part:
                first, last = int(part[1]), min(int(part[2] or last), last)
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
            else:
                self.send_response(200)
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Length", str(last - first + 1))
            self.end_headers()
            if body:
                with lock:
                    server.given[name] += last - first + 1
                self.wfile.write(content[first : last + 1])

        def log_message(self, format: str, *args: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        http.daemon_threads = True
        server = Server(f"http://127.0.0.1:{http.server_address[1]}")
        thread = threading.Thread(target=http.serve_forever, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.stopped.set()
            http.shutdown()
            thread.join()

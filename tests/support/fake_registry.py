"""A registry in a thread of the test, which behaves as badly as the test tells it to."""

from __future__ import annotations

import hashlib
import json
import ssl
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


def digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def descriptor(data: bytes, media_type: str = LAYER, **more: Any) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest_of(data), "size": len(data), **more}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def handle(self) -> None:
        try:
            super().handle()
        except OSError:
            pass  # the client went away, which many of these tests are about

    def answer(
        self, status: int, body: bytes = b"", length: int | None = None, **headers: str
    ) -> bool:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        return True

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _serve(self) -> None:
        registry = self.server.registry
        registry.requests.append((self.command, self.path, dict(self.headers)))
        for start, rule in list(registry.rules.items()):
            method, _, prefix = start.rpartition(" ")
            if self.path.startswith(prefix) and method in ("", self.command) and rule(self):
                return
        if self.command not in ("GET", "HEAD"):
            self.body()
            self.answer(405)
        elif self.path == "/v2/":
            self.answer(200, b"{}")
        elif self.path in registry.content:
            data, kind = registry.content[self.path]
            start_at = self.headers.get("Range", "")
            if start_at and registry.ranges:
                first = int(start_at.removeprefix("bytes=").rstrip("-"))
                area = f"bytes {first}-{len(data) - 1}/{len(data)}"
                self.answer(206, data[first:], Content_Range=area)
                return
            self.answer(200, data, Content_Type=kind)
        else:
            error = {"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]}
            self.answer(404, json.dumps(error).encode())

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _serve


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    registry: FakeRegistry

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass


Rule = Callable[[Handler], bool]


class FakeRegistry:
    """Serves `content` by path; `rules`, by "METHOD /path" or "/path" prefix, come first."""

    def __init__(self, tls: tuple[str, str] | None = None) -> None:
        self.content: dict[str, tuple[bytes, str]] = {}
        self.rules: dict[str, Rule] = {}
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.ranges = True
        self._server = _Server(("127.0.0.1", 0), Handler)
        self._server.registry = self
        self.scheme = "http"
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
            self.scheme = "https"
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.01,), daemon=True
        )

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self._server.server_port}"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.host}"

    def __enter__(self) -> FakeRegistry:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def add_blob(self, repository: str, data: bytes, digest: str = "") -> dict[str, Any]:
        self.content[f"/v2/{repository}/blobs/{digest or digest_of(data)}"] = (
            data,
            "application/octet-stream",
        )
        return descriptor(data)

    def add_manifest(
        self, repository: str, document: dict[str, Any] | bytes, *names: str, kind: str = MANIFEST
    ) -> str:
        data = document if isinstance(document, bytes) else json.dumps(document).encode()
        for name in (digest_of(data), *names):
            self.content[f"/v2/{repository}/manifests/{name}"] = (data, kind)
        return digest_of(data)

    def seen(self, method: str, prefix: str) -> list[dict[str, str]]:
        return [h for m, path, h in self.requests if m == method and path.startswith(prefix)]

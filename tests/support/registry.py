"""Debian's docker-registry on loopback: plain, with TLS, with passwords."""

from __future__ import annotations

import http.client
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType

USER, PASSWORD = "user", "pass word"


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that is its own authority; and its key."""
    words = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1"
    words += " -addext subjectAltName=IP:127.0.0.1 -keyout key.pem -out cert.pem"
    subprocess.run(words.split(), cwd=folder, check=True, capture_output=True)
    return folder / "cert.pem", folder / "key.pem"


class DockerRegistry:
    """One server with a folder of its own; `host` is where it answers."""

    def __init__(self, *, tls: bool = False, auth: bool = False) -> None:
        self.tls = tls
        self.auth = auth
        self.folder = Path(tempfile.mkdtemp(prefix="rltreg-"))
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.host = f"127.0.0.1:{probe.getsockname()[1]}"
        config = [
            "version: 0.1",
            "log: {level: error, accesslog: {disabled: true}}",
            f"storage: {{filesystem: {{rootdirectory: {self.folder}/data}}, delete: {{enabled: true}}}}",
            "http:",
            f"  addr: {self.host}",
        ]
        if tls:
            certificate, key = make_certificate(self.folder)
            config += ["  tls:", f"    certificate: {certificate}", f"    key: {key}"]
        if auth:
            done = subprocess.run(
                ["htpasswd", "-Bbn", USER, PASSWORD], check=True, capture_output=True
            )
            (self.folder / "htpasswd").write_bytes(done.stdout)
            config.append(f"auth: {{htpasswd: {{realm: test, path: {self.folder}/htpasswd}}}}")
        (self.folder / "config.yml").write_text("\n".join(config) + "\n")
        self._process: subprocess.Popen[bytes] | None = None
        # What a user of the server has put there.
        self.uploaded: set[str] = set()

    @property
    def certificate(self) -> Path:
        return self.folder / "cert.pem"

    def __enter__(self) -> DockerRegistry:
        self._process = subprocess.Popen(
            ["docker-registry", "serve", str(self.folder / "config.yml")],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        address, _, port = self.host.partition(":")
        deadline = time.monotonic() + 30
        while True:
            try:
                socket.create_connection((address, int(port)), 1).close()
                return self
            except OSError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    self.__exit__(None, None, None)
                    raise
            time.sleep(0.02)  # the server says nowhere else that it listens

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(20)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _put(self, method: str, path: str, data: bytes, kind: str = "") -> str:
        """Ask the plain server itself; return where it says that one goes on."""
        connection = http.client.HTTPConnection(self.host)
        connection.request(method, path, data, {"Content-Type": kind or "application/octet-stream"})
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        assert answer.status in (201, 202), f"{method} {path}: {answer.status} {text!r}"
        return answer.getheader("Location") or ""

    def put_blob(self, repository: str, digest: str, data: bytes) -> None:
        location = self._put("POST", f"/v2/{repository}/blobs/uploads/", b"")
        path = location.removeprefix(f"http://{self.host}")
        self._put("PUT", f"{path}{'&' if '?' in path else '?'}digest={digest}", data)

    def put_manifest(
        self,
        repository: str,
        tag: str,
        data: bytes,
        kind: str = "application/vnd.oci.image.manifest.v1+json",
    ) -> None:
        self._put("PUT", f"/v2/{repository}/manifests/{tag}", data, kind)

    def manifest_digest(self, repository: str, tag: str) -> str:
        """Ask the plain server itself."""
        connection = http.client.HTTPConnection(self.host)
        accept = (
            "application/vnd.oci.image.manifest.v1+json,application/vnd.oci.image.index.v1+json,"
        )
        accept += "application/vnd.docker.distribution.manifest.v2+json,"
        accept += "application/vnd.docker.distribution.manifest.list.v2+json"
        connection.request("GET", f"/v2/{repository}/manifests/{tag}", headers={"Accept": accept})
        answer = connection.getresponse()
        answer.read()
        connection.close()
        assert answer.status == 200, f"{repository}:{tag} is not in the registry: {answer.status}"
        digest = answer.getheader("Docker-Content-Digest")
        assert digest
        return digest

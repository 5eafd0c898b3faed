"""Images made on the spot, in pure Python: a root file system of busybox, and archives around any set of files."""

from __future__ import annotations

import functools
import gzip
import hashlib
import io
import json
import subprocess
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tests.support import host

Entry = tuple[tarfile.TarInfo, bytes]

PASSWD = b"root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1::/:/bin/false\napp:x:1000:1000::/home/app:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n"
GROUP = b"root:x:0:\ndaemon:x:1:\nstaff:x:50:app\napp:x:1000:\nwheel:x:10:app\nnogroup:x:65534:\n"


def folder(name: str, mode: int = 0o755, uid: int = 0, gid: int = 0) -> Entry:
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.uid, info.gid = tarfile.DIRTYPE, mode, uid, gid
    return info, b""


def file(
    name: str, content: bytes | str = b"", mode: int = 0o644, uid: int = 0, gid: int = 0
) -> Entry:
    data = content.encode() if isinstance(content, str) else content
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.uid, info.gid = len(data), mode, uid, gid
    return info, data


def symlink(name: str, target: str) -> Entry:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = tarfile.SYMTYPE, target, 0o777
    return info, b""


def hardlink(name: str, target: str) -> Entry:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = tarfile.LNKTYPE, target
    return info, b""


def layer(entries: Iterable[Entry]) -> bytes:
    """An uncompressed layer. Nothing in it depends on the time, so that equal content has an equal digest."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for info, data in entries:
            archive.addfile(info, io.BytesIO(data) if info.isreg() else None)
    return stream.getvalue()


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def config(layers: Sequence[bytes], **settings: Any) -> bytes:
    """An OCI image configuration; settings are those of its `config` part (Cmd, Env, User …)."""
    document = {
        "architecture": "amd64",
        "os": "linux",
        "created": "2024-01-01T00:00:00Z",
        "config": {
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            **settings,
        },
        "rootfs": {"type": "layers", "diff_ids": [digest(data) for data in layers]},
        "history": [
            {"created": "2024-01-01T00:00:00Z", "created_by": f"layer {n}"}
            for n, _ in enumerate(layers)
        ],
    }
    return json.dumps(document).encode()


def docker_archive(
    path: Path, layers: Sequence[bytes], names: Sequence[str], **settings: Any
) -> Path:
    """Write what `docker save` and `podman save` write."""
    document = config(layers, **settings)
    entries = [file(f"{digest(document)[7:]}.json", document)]
    paths = []
    for data in layers:
        paths.append(f"{digest(data)[7:]}.tar")
        if paths[-1] not in paths[:-1]:
            entries.append(file(paths[-1], data))
    manifest = [
        {"Config": f"{digest(document)[7:]}.json", "RepoTags": list(names), "Layers": paths}
    ]
    entries.append(file("manifest.json", json.dumps(manifest)))
    path.write_bytes(layer(entries))
    return path


def oci_layout(
    path: Path,
    layers: Sequence[bytes],
    name: str | None = None,
    compress: bool = True,
    **settings: Any,
) -> Path:
    """Write an OCI image layout into the folder `path`."""

    def blob(data: bytes) -> tuple[str, int]:
        target = path / "blobs/sha256" / digest(data)[7:]
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
        return digest(data), len(data)

    def descriptor(kind: str, data: bytes, **more: Any) -> dict[str, Any]:
        identity, size = blob(data)
        return {
            "mediaType": f"application/vnd.oci.image.{kind}",
            "digest": identity,
            "size": size,
            **more,
        }

    packed = [
        (gzip.compress(data, mtime=0), "layer.v1.tar+gzip") if compress else (data, "layer.v1.tar")
        for data in layers
    ]
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("config.v1+json", config(layers, **settings)),
        "layers": [descriptor(kind, data) for data, kind in packed],
    }
    annotations = {"annotations": {"org.opencontainers.image.ref.name": name}} if name else {}
    index = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [descriptor("manifest.v1+json", json.dumps(manifest).encode(), **annotations)],
    }
    (path / "index.json").write_text(json.dumps(index))
    (path / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return path


def oci_archive(
    path: Path, layers: Sequence[bytes], name: str | None = None, **settings: Any
) -> Path:
    layout = oci_layout(path.with_suffix(".layout"), layers, name, **settings)
    with tarfile.open(path, "w") as archive:
        for item in sorted(layout.rglob("*")):
            archive.add(item, str(item.relative_to(layout)), recursive=False)
    return path


@functools.cache
def busybox_layer() -> bytes:
    """A small system: busybox with a link for each of its commands, users, and the folders that programs expect."""
    program = host.program("busybox")
    assert program, "busybox is not installed"
    names = subprocess.run(
        [program, "--list"], capture_output=True, text=True, check=True
    ).stdout.split()
    entries = [
        folder(name)
        for name in ("bin", "dev", "etc", "home", "proc", "root", "sys", "usr", "usr/bin", "var")
    ]
    entries += [folder("home/app", 0o755, 1000, 1000), folder("tmp", 0o1777)]
    entries.append(file("bin/busybox", Path(program).read_bytes(), 0o755))
    entries += [symlink(f"bin/{name}", "busybox") for name in names if name != "busybox"]
    entries += [symlink("usr/bin/env", "/bin/busybox")]
    entries += [file("etc/passwd", PASSWD), file("etc/group", GROUP)]
    return layer(entries)


def busybox_archive(path: Path, *names: str, more: Iterable[Entry] = (), **settings: Any) -> Path:
    """A docker-archive of the busybox system, with a second layer of `more` files if given."""
    layers = [busybox_layer()]
    added = layer(more)
    if list(more):
        layers.append(added)
    return docker_archive(
        path, layers, names or ["localhost/busybox:latest"], **{"Cmd": ["sh"], **settings}
    )


def busybox_rootfs(path: Path) -> Path:
    """The busybox system as a folder of our own, for --rootfs and bundles."""
    path.mkdir()
    # Debian 12's Python has no filter to give to tarfile, and 3.14 insists on one.
    subprocess.run(["tar", "-x", "-C", str(path)], input=busybox_layer(), check=True, timeout=60)
    return path

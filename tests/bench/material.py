"""The images that are pulled, loaded, saved and pushed; made once for each scale, and kept in a folder for later runs.

    debian   1.4 GB of this machine's own /usr in 5 layers: programs, libraries and documents as a distribution has them
    files    100,000 small files in one layer
    layers   40 layers of 5 MiB

Nothing comes from the network, and the same machine gives the same bytes.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import random
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

NAMES = ("debian", "files", "layers")
_DEBIAN_BYTES = 1_400_000_000
_DEBIAN_LAYERS = 5
# Bigger ones would make one layer of one file.
_FILE_MAX = 64 << 20
_FILES = 100_000
_LAYERS = 40
_LAYER_BYTES = 5 << 20
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"

scale = 1.0


def folder() -> Path:
    """Where the images of the present scale are."""
    base = os.environ.get("ROOTLESS_BENCH_CACHE") or f"/var/tmp/rootless-bench-{os.getuid()}"
    return Path(base) / f"scale-{scale:g}"


class Image:
    """One of them: its manifest, and its layers as files, packed and plain."""

    def __init__(self, name: str) -> None:
        self.path = folder() / name
        if not (self.path / "manifest.json").exists():
            _make(name, self.path)
        self.manifest = (self.path / "manifest.json").read_bytes()
        document: dict[str, Any] = json.loads(self.manifest)
        self.config = (self.path / document["config"]["digest"][7:]).read_bytes()
        self.blobs = [
            (entry["digest"], self.path / entry["digest"][7:]) for entry in document["layers"]
        ]

    def archive(self, name: str) -> Path:
        """A docker-archive of it, plain layers inside, as `docker save` and `podman save` write it."""
        path = self.path / "image.tar"
        if path.exists():
            return path
        diff_ids = json.loads(self.config)["rootfs"]["diff_ids"]
        config = f"{hashlib.sha256(self.config).hexdigest()}.json"
        names = [f"{diff_id[7:]}.tar" for diff_id in diff_ids]
        listing = [{"Config": config, "RepoTags": [name], "Layers": names}]
        with tarfile.open(path.with_suffix(".part"), "w") as out:
            _add(out, config, self.config)
            for member, (_, blob) in zip(names, self.blobs, strict=True):
                with tempfile.TemporaryFile(dir=self.path) as plain, gzip.open(blob) as packed:
                    shutil.copyfileobj(packed, plain, 1 << 20)
                    info = tarfile.TarInfo(member)
                    info.size = plain.tell()
                    plain.seek(0)
                    out.addfile(info, plain)
            _add(out, "manifest.json", json.dumps(listing).encode())
        path.with_suffix(".part").rename(path)
        return path


def many(path: Path, count: int, layer: bytes) -> list[str]:
    """Write a docker-archive of `count` images on one layer, each with its name."""
    listing, names = [], []
    diff_id = hashlib.sha256(layer).hexdigest()
    with tarfile.open(path, "w") as out:
        _add(out, f"{diff_id}.tar", layer)
        for number in range(count):
            config = json.dumps(_config([f"sha256:{diff_id}"], str(number))).encode()
            file = f"{hashlib.sha256(config).hexdigest()}.json"
            _add(out, file, config)
            names.append(f"localhost/many{number}:latest")
            listing.append({"Config": file, "RepoTags": [names[-1]], "Layers": [f"{diff_id}.tar"]})
        _add(out, "manifest.json", json.dumps(listing).encode())
    return names


def _add(out: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    out.addfile(info, io.BytesIO(data))


def _config(diff_ids: list[str], comment: str) -> dict[str, Any]:
    return {
        "architecture": "amd64",
        "os": "linux",
        "created": "2024-01-01T00:00:00Z",
        "config": {"Cmd": ["sh"], "Labels": {"bench": comment}},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": [{"created": "2024-01-01T00:00:00Z", "created_by": comment} for _ in diff_ids],
    }


def _make(name: str, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=path.parent))
    count = {"debian": _DEBIAN_LAYERS, "files": 1, "layers": max(2, int(_LAYERS * scale))}[name]
    with ProcessPoolExecutor() as pool:
        made = list(pool.map(_layer, [name] * count, range(count), [work] * count, [scale] * count))
    config = json.dumps(_config([diff_id for diff_id, _ in made], name)).encode()
    descriptors = []
    for kind, digest, size in [
        ("config.v1+json", _put(work, config), len(config)),
        *(("layer.v1.tar+gzip", one, (work / one[7:]).stat().st_size) for _, one in made),
    ]:
        descriptors.append(
            {"mediaType": f"application/vnd.oci.image.{kind}", "digest": digest, "size": size}
        )
    document = {"schemaVersion": 2, "mediaType": _MANIFEST, "config": descriptors[0]}
    document["layers"] = descriptors[1:]
    (work / "manifest.json").write_text(json.dumps(document))
    work.rename(path)


def _put(path: Path, data: bytes) -> str:
    value = hashlib.sha256(data).hexdigest()
    (path / value).write_bytes(data)
    return f"sha256:{value}"


class _Hashing(io.RawIOBase):
    """Hashes the plain archive on its way into the packer."""

    def __init__(self, out: gzip.GzipFile) -> None:
        self.hash = hashlib.sha256()
        self._out = out

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.hash.update(data)
        return self._out.write(data)


def _layer(name: str, number: int, work: Path, wanted_scale: float) -> tuple[str, str]:
    """Write one layer; return its diff ID and the digest of its packed form."""
    global scale
    scale = wanted_scale
    temporary = work / f"part{number}"
    with temporary.open("wb") as file, gzip.GzipFile("", "wb", 6, file, 0) as packer:
        plain = _Hashing(packer)
        with tarfile.open(fileobj=plain, mode="w|", format=tarfile.GNU_FORMAT) as out:
            {"debian": _debian, "files": _small, "layers": _noise}[name](out, number)
    with temporary.open("rb") as packed:
        digest = hashlib.file_digest(packed, "sha256").hexdigest()
    temporary.rename(work / digest)
    return f"sha256:{plain.hash.hexdigest()}", f"sha256:{digest}"


def _files_of_usr() -> Iterator[tuple[str, os.stat_result]]:
    for top in ("/usr/bin", "/usr/sbin", "/usr/share", "/usr/lib"):
        for base, folders, names in os.walk(top):
            folders.sort()
            for name in sorted(names):
                path = f"{base}/{name}"
                status = os.lstat(path)
                if status.st_size <= _FILE_MAX and os.access(path, os.R_OK, follow_symlinks=False):
                    yield path, status


def _debian(out: tarfile.TarFile, number: int) -> None:
    share = _DEBIAN_BYTES * scale / _DEBIAN_LAYERS
    total = 0.0
    made: set[str] = set()
    for path, status in _files_of_usr():
        at, total = int(total // share), total + status.st_size
        if at > number:
            return
        if at < number:
            continue
        parts = path.strip("/").split("/")[:-1]
        for depth in range(1, len(parts) + 1):
            name = "/".join(parts[:depth])
            if name not in made:
                made.add(name)
                info = tarfile.TarInfo(name)
                info.type, info.mode, info.mtime = tarfile.DIRTYPE, 0o755, int(status.st_mtime)
                out.addfile(info)
        info = tarfile.TarInfo(path.strip("/"))
        info.mtime = int(status.st_mtime)
        if os.path.islink(path):
            info.type, info.linkname, info.mode = tarfile.SYMTYPE, os.readlink(path), 0o777
            out.addfile(info)
        elif os.path.isfile(path):
            info.mode, info.size = status.st_mode & 0o777, status.st_size
            with open(path, "rb") as file:
                out.addfile(info, file)


def _small(out: tarfile.TarFile, _: int) -> None:
    source = random.Random(1)
    text = bytes(source.choices(range(32, 127), k=1 << 16))
    for number in range(int(_FILES * scale)):
        if number % 100 == 0:
            folder = tarfile.TarInfo(f"data/{number // 100:04}")
            folder.type, folder.mode, folder.mtime = tarfile.DIRTYPE, 0o755, 1_700_000_000
            out.addfile(folder)
        info = tarfile.TarInfo(f"data/{number // 100:04}/{number % 100:02}.txt")
        info.size, info.mtime = source.randrange(4096), 1_700_000_000 + number
        start = source.randrange(len(text) - 4096)
        out.addfile(info, io.BytesIO(text[start : start + info.size]))


def _noise(out: tarfile.TarFile, number: int) -> None:
    source = random.Random(number)
    for part in range(5):
        info = tarfile.TarInfo(f"layer{number:02}/{part}")
        info.size, info.mtime = _LAYER_BYTES // 5, 1_700_000_000
        out.addfile(info, io.BytesIO(source.randbytes(info.size)))

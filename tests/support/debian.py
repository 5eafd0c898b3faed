"""A Debian root by debootstrap without a network: the packages are those of this machine, packed again from its files."""

from __future__ import annotations

import hashlib
import io
import os
import platform
import subprocess
import tarfile
from pathlib import Path

_INFO = Path("/var/lib/dpkg/info")
# What is a link on this machine and a folder in the packages.
_MERGED = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
_NOT_CONTROL = {"list", "md5sums"}
Stanza = dict[str, str]


def codename() -> str:
    return platform.freedesktop_os_release().get("VERSION_CODENAME", "")


def installed() -> dict[str, Stanza]:
    """The status of every installed package, by name."""
    text = subprocess.run(["dpkg-query", "--status"], capture_output=True, text=True, check=False)
    if text.returncode or not text.stdout:
        file = Path("/var/lib/dpkg/status").read_text(encoding="utf-8")
    else:
        file = text.stdout
    found: dict[str, Stanza] = {}
    for paragraph in file.split("\n\n"):
        stanza: Stanza = {}
        key = ""
        for line in paragraph.splitlines():
            if line[:1] in " \t":
                stanza[key] += f"\n{line}"
            else:
                key, _, value = line.partition(":")
                stanza[key] = value.strip()
        if stanza.get("Status") == "install ok installed":
            found.setdefault(stanza["Package"], stanza)
    return found


def closure(packages: dict[str, Stanza], wanted: list[str]) -> list[str]:
    """The wanted packages and what they depend on, as this machine has satisfied it."""
    providers = {
        one.split()[0]: name
        for name, stanza in packages.items()
        for one in stanza.get("Provides", "").split(",")
        if one.strip()
    }
    found: list[str] = []
    while wanted:
        name = wanted.pop()
        if name in found:
            continue
        found.append(name)
        stanza = packages[name]
        for group in f"{stanza.get('Pre-Depends', '')},{stanza.get('Depends', '')}".split(","):
            for choice in group.split("|"):
                one = choice.split("(")[0].split(":")[0].strip()
                one = one if one in packages else providers.get(one, "")
                if one:
                    wanted.append(one)
                    break
    return sorted(found)


def repository(folder: Path, *more: str) -> None:
    """Write a repository of everything that is required, apt, and `more`."""
    packages = installed()
    required = [name for name, one in packages.items() if one.get("Priority") == "required"]
    listing = []
    pool = folder / "pool"
    pool.mkdir(parents=True)
    for name in closure(packages, [*required, "apt", *more]):
        data = _package(packages[name])
        (pool / f"{name}.deb").write_bytes(data)
        lines = _control(packages[name])
        lines += f"Filename: pool/{name}.deb\nSize: {len(data)}\n"
        lines += f"SHA256: {hashlib.sha256(data).hexdigest()}\n"
        lines += f"MD5sum: {hashlib.md5(data, usedforsecurity=False).hexdigest()}\n"
        listing.append(lines)
    architecture = packages["dpkg"]["Architecture"]
    suite = folder / "dists" / codename()
    part = f"main/binary-{architecture}/Packages"
    (suite / part).parent.mkdir(parents=True)
    content = "".join(f"{lines}\n" for lines in listing).encode()
    (suite / part).write_bytes(content)
    (suite / "Release").write_text(
        f"Suite: {codename()}\nCodename: {codename()}\nComponents: main\n"
        f"Architectures: {architecture}\nDate: Thu, 01 Jan 2026 00:00:00 UTC\n"
        f"SHA256:\n {hashlib.sha256(content).hexdigest()} {len(content)} {part}\n"
    )


def _control(stanza: Stanza) -> str:
    return "".join(
        f"{key}: {value}\n" for key, value in stanza.items() if key not in ("Status", "Conffiles")
    )


def _package(stanza: Stanza) -> bytes:
    """deb(5): an ar archive of the format's version, the control files and the files, neither of them packed."""
    name, architecture = stanza["Package"], stanza["Architecture"]
    stem = name if (_INFO / f"{name}.list").exists() else f"{name}:{architecture}"
    control, data = io.BytesIO(), io.BytesIO()
    with tarfile.open(fileobj=control, mode="w", format=tarfile.GNU_FORMAT) as out:
        _add(out, "./control", _control(stanza).encode(), 0o644)
        for path in sorted(_INFO.glob(f"{stem}.*")):
            kind = path.name[len(stem) + 1 :]
            if "." not in kind and kind not in _NOT_CONTROL:
                _add(out, f"./{kind}", path.read_bytes(), path.stat().st_mode & 0o777)
    with tarfile.open(fileobj=data, mode="w", format=tarfile.GNU_FORMAT) as out:
        for line in (_INFO / f"{stem}.list").read_text(encoding="utf-8").splitlines():
            _copy(out, line)
    whole = b"!<arch>\n"
    for member, content in (
        ("debian-binary", b"2.0\n"),
        ("control.tar", control.getvalue()),
        ("data.tar", data.getvalue()),
    ):
        whole += f"{member:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n".encode()
        whole += content + b"\n" * (len(content) % 2)
    return whole


def _add(out: tarfile.TarFile, name: str, data: bytes, mode: int) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), mode
    out.addfile(info, io.BytesIO(data))


def _copy(out: tarfile.TarFile, path: str) -> None:
    try:
        status = os.lstat(path)
    except OSError:
        return  # left out when this machine was made: documents
    info = tarfile.TarInfo(f".{path}" if path != "/." else "./")
    info.mode, info.mtime = status.st_mode & 0o7777, int(status.st_mtime)
    if os.path.isdir(path) and (path in _MERGED or not os.path.islink(path)):
        info.type = tarfile.DIRTYPE
        info.mode = 0o755 if os.path.islink(path) else info.mode
        out.addfile(info)
    elif os.path.islink(path):
        info.type, info.linkname, info.mode = tarfile.SYMTYPE, os.readlink(path), 0o777
        out.addfile(info)
    elif os.path.isfile(path) and os.access(path, os.R_OK):
        info.size = status.st_size
        with open(path, "rb") as file:
            out.addfile(info, file)


def make_root(folder: Path, mirror: Path) -> Path:
    """Run debootstrap as an ordinary user; return a tar archive of the root."""
    archive = folder / "root.tar"
    script = 'debootstrap --variant=minbase --no-check-gpg "$1" "$2/root" "file://$3" && tar -C "$2/root" --one-file-system -cf "$4" .'
    done = subprocess.run(
        [
            *("unshare", "--map-root-user", "--map-auto", "--mount", "--pid", "--fork"),
            *("--kill-child", "sh", "-c", script, "sh"),
            *(codename(), str(folder), str(mirror), str(archive)),
        ],
        # The word tells debootstrap that it can make no device nodes.
        env={"container": "lxc", "LC_ALL": "C", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    subprocess.run(
        ["unshare", "--map-root-user", "--map-auto", "rm", "-rf", str(folder / "root")], check=True
    )
    return archive

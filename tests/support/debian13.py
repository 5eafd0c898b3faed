"""Debian 13's pasta, slirp4netns and aardvark-dns on whatever this is: its packages, fetched once, run by its own loader and libraries.

Versions of these helpers differ in what they can do, and users have either. Where they cannot be had (another processor,
no way to the archive or its key) the reason is told.
"""

from __future__ import annotations

import fcntl
import functools
import os
import platform
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support import host
from tests.vm.image import cache_folder

_PACKAGES = "passt slirp4netns aardvark-dns libslirp0 libseccomp2 libglib2.0-0t64 libpcre2-8-0 libatomic1 libgcc-s1 libc6".split()
_KEYS = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_TIMEOUT_S = 120
_APT = """\
Dir::Etc::sourcelist "{folder}/sources.list"; Dir::Etc::sourceparts "/dev/null";
Dir::Etc::main "/dev/null"; Dir::Etc::parts "/dev/null";
Dir::Etc::preferences "/dev/null"; Dir::Etc::preferencesparts "/dev/null";
Dir::State "{folder}/state"; Dir::State::status "/dev/null"; Dir::Cache "{folder}/cache";
Acquire::Languages "none"; Acquire::Retries "2"; APT::Sandbox::User ""; APT::Architecture "amd64";
"""
_LIBRARIES = "usr/lib/x86_64-linux-gnu"


class Unavailable(Exception):
    """With the reason."""


@functools.cache
def helpers() -> Path:
    """A folder for helper_binaries_dir."""
    if platform.machine() != "x86_64":
        raise Unavailable(f"fetched for x86_64 only, this is {platform.machine()}")
    if not shutil.which("apt-get") or not _KEYS.exists():
        raise Unavailable("no apt-get with Debian's keys")
    base = cache_folder()
    base.mkdir(parents=True, exist_ok=True)
    folder = base / "debian13-helpers-3"  # another list of packages, another name
    with open(base / "debian13-helpers.lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            making = base / "debian13-helpers.making"
            shutil.rmtree(making, ignore_errors=True)
            _fetch(making)
            _wrap(making, folder)
            making.rename(folder)
    return folder / "bin"


def require() -> Path:
    """That folder; the test that asks is skipped where the archive cannot be reached and need not be."""
    try:
        return helpers()
    except Unavailable as reason:
        if not host.excused("internet"):
            raise
        pytest.skip(str(reason))


def _fetch(folder: Path) -> None:
    for name in ("state/lists/partial", "cache/archives/partial", "packages", "root"):
        (folder / name).mkdir(parents=True)
    mirror = os.environ.get("ROOTLESS_TEST_MIRROR", "http://deb.debian.org/debian")
    (folder / "sources.list").write_text(f"deb [signed-by={_KEYS}] {mirror} trixie main\n")
    (folder / "apt.conf").write_text(_APT.format(folder=folder))
    packages = folder / "packages"
    env = {**os.environ, "APT_CONFIG": str(folder / "apt.conf"), "LC_ALL": "C"}
    for command in (["apt-get", "-qq", "update"], ["apt-get", "-qq", "download", *_PACKAGES]):
        try:
            subprocess.run(
                command, cwd=packages, env=env, check=True, capture_output=True, timeout=_TIMEOUT_S
            )
        except subprocess.CalledProcessError as error:
            words = error.stderr.decode(errors="replace").strip().splitlines() or [
                "no reason given"
            ]
            raise Unavailable(f"Debian 13's packages cannot be fetched: {words[-1]}") from None
        except subprocess.TimeoutExpired:
            raise Unavailable("Debian 13's packages cannot be fetched: too slow") from None
    for package in packages.iterdir():
        subprocess.run(["dpkg-deb", "-x", package, folder / "root"], check=True, timeout=60)
    for name in ("state", "cache", "packages"):
        shutil.rmtree(folder / name)


def _wrap(making: Path, folder: Path) -> None:
    """Their own loader is asked for by name: the one of this system may be older."""
    libraries = folder / "root" / _LIBRARIES
    (making / "bin").mkdir()
    for name in ("pasta", "pasta.avx2", "slirp4netns", "aardvark-dns"):
        place = "lib/podman" if name == "aardvark-dns" else "bin"
        wrapper = making / "bin" / name
        wrapper.write_text(
            f"#!/bin/sh\nexec {libraries}/ld-linux-x86-64.so.2 --argv0 {name.partition('.')[0]} "
            f'--library-path {libraries} {folder}/root/usr/{place}/{name} "$@"\n'
        )
        wrapper.chmod(0o755)

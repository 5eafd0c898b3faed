"""checkpoint and restore: criu(8) called on a container; without it, or where the kernel refuses it, an error that says so.

criu does all of the work. What is ours: the bind mounts and namespaces that it has to leave to us, and the record.
"""

from __future__ import annotations

import os

from rootless.errors import InvalidState, RootlessError
from rootless.files import make_dirs, read_bytes
from rootless.linux.idmap import find_trusted
from rootless.ocicli import records
from rootless.ocicli.spoken import output_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.ocicli.commandline import Given

_PASSED = ("tcp-established", "tcp-close", "ext-unix-sk", "shell-job", "file-locks", "link-remap", "auto-dedup")  # fmt: skip
_WITH_VALUE = {
    "manage-cgroups-mode": "--manage-cgroups",
    "lsm-profile": "--lsm-profile",
    "lsm-mount-context": "--lsm-mount-context",
    "page-server": "--address",
}


def run(settings: Given, given: Given) -> int:
    """The command `checkpoint`."""
    record = records.load(settings, given.words[0])
    status = record.status()
    if status not in (records.RUNNING, records.PAUSED):
        raise InvalidState(f"cannot checkpoint container `{record.identity}`: it is {status}")
    program = find(settings)
    words = ["pre-dump" if given.switch("pre-dump") else "dump", "--tree", str(record.pid)]
    words += _common(given, record.spec())
    if given.switch("leave-running"):
        words.append("--leave-running")
    if given.text("parent-path"):
        words += ["--prev-images-dir", given.text("parent-path"), "--track-mem"]
    if given.switch("lazy-pages"):
        words.append("--lazy-pages")
    _call(program, words, given)
    return 0


def restore(settings: Given, given: Given) -> int:
    """The command `restore`."""
    program = find(settings)
    from rootless.ocicli.create import Creation
    from rootless.ocicli.delete import end, forget
    from rootless.ocicli.foreground import follow

    make = Creation(settings, given, leaves=False)
    record = make.record
    pid_file = f"{record.folder}/criu.pid"
    record.take()
    try:
        record.write_config(make.bundle.text)
        words = ["restore", "--restore-detached", "--restore-sibling", "--pidfile", pid_file]
        words += ["--root", make.bundle.rootfs, *_common(given, make.spec)]
        _call(program, words, given)
        record.set_init(int(read_bytes(pid_file)))
        os.unlink(pid_file)
        make.write()
    except BaseException:
        record.remove()
        raise
    make.finish(record.pid)
    if given.switch("detach"):
        return 0
    try:
        return follow(record.pid)
    finally:
        end(record)
        forget(record)


def find(settings: Given) -> str:
    """The program; RootlessError where this host has none."""
    program = settings.text("criu") or find_trusted("criu")
    if not program or not os.access(program, os.X_OK):
        raise RootlessError(
            f"{program or 'criu'}: the program that checkpoints and restores is not there",
            hint="ask for the package criu",
        )
    return program


def _common(given: Given, spec: dict[str, Any]) -> list[str]:
    images = given.text("image-path") or "checkpoint"
    make_dirs(os.path.abspath(images))
    words = ["--images-dir", images, "-v4", "--log-file", log_name(given)]
    work = given.text("work-path") or images
    make_dirs(os.path.abspath(work))
    words += ["--work-dir", work]
    for name in _PASSED:
        if given.switch(name):
            words.append(f"--{name}")
    for name, word in _WITH_VALUE.items():
        if given.text(name):
            words += [word, given.text(name)]
    for entry in spec.get("mounts") or ():
        if not {"bind", "rbind"}.isdisjoint(entry.get("options") or ()):
            where = entry["destination"]
            words += ["--external", f"mnt[{where}]:{where}"]
    if os.geteuid():
        words.append("--unprivileged")
    return words


def log_name(given: Given) -> str:
    return "restore.log" if "detach" in given.options or given.text("bundle") else "dump.log"


def _call(program: str, words: list[str], given: Given) -> None:
    """Run criu; its last error where it fails."""
    said, code = output_of(program, ["criu", *words], 1, 2)
    if not code:
        return
    if b"unrecognized option '--unprivileged'" in said:
        raise RootlessError(
            f"{program}: this version can be used by root alone",
            hint="criu 3.18 and later work for a user, where the kernel lets them",
        )
    log = os.path.join(given.text("work-path") or given.text("image-path") or "checkpoint", log_name(given))  # fmt: skip
    try:
        said += read_bytes(log)
    except OSError:
        pass
    errors = [line for line in said.decode("utf-8", "replace").splitlines() if "Error" in line]
    raise RootlessError(
        f"criu {words[0]} failed: {errors[0].strip() if errors else f'exit status {code}'}",
        hint=f"see {log}; `criu check` says whether this kernel lets this user do it",
    )

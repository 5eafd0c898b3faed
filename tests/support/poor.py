"""Hosts made poorer for one command: mounts and limits in namespaces of its own."""

from __future__ import annotations

import os
import subprocess


def in_mounts(
    mounts: str,
    *command: str,
    env: dict[str, str],
    subids: bool = False,
    limit: str = "",
    timeout: float = 120,
) -> subprocess.CompletedProcess[str]:
    """Run a command with the caller's ids where root of a user namespace has made mounts.

    A set-uid program has no power in there, and so the user has no subordinate ids; with `subids` the tables say so all
    the same. With `limit` the user may have none of what that file of /proc/sys/user counts (namespaces(7)).
    """
    keep = f"unshare --user --map-user={os.getuid()} --map-group={os.getgid()}"
    if limit:
        keep += f""" --keep-caps sh -c 'echo 0 > /proc/sys/user/{limit}; exec "$@"' sh"""
    hide = "for file in /etc/subuid /etc/subgid; do mount --bind /dev/null $file; done"
    script = f"""
        {"" if subids else hide}
        {mounts}
        exec {keep} "$@"
    """
    return subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-ec", script, "sh", *command],
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
    )


def with_user_limit(
    name: str, *command: str, env: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run a command where the user may have none of what /proc/sys/user/NAME counts (namespaces(7), inotify(7))."""
    ids = (f"--map-user={os.getuid()}", f"--map-group={os.getgid()}", "--keep-caps")
    script = f'echo 0 > /proc/sys/user/{name}; exec "$@"'
    return subprocess.run(
        ["unshare", "--user", *ids, "sh", "-c", script, "sh", *command],
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def without_userns(*command: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return with_user_limit("max_user_namespaces", *command, env=env)


def plain(error: str, *words: str) -> None:
    """One line of error, with its remedy, no traceback, and these words in it."""
    lines = [line for line in error.splitlines() if not line.startswith("WARN")]
    assert lines and lines[0].startswith("Error: ") and len(lines) == 1, error
    assert "internal error" not in error and "Traceback" not in error, error
    for word in words:
        assert word in error, error

"""What another program says."""

from __future__ import annotations

import os


def output_of(program: str, words: list[str], *streams: int) -> tuple[bytes, int]:
    """Run it; what it writes to those descriptors, and its exit status, negative for a signal's number."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    try:
        pid = os.posix_spawn(
            program,
            words,
            os.environ,
            file_actions=[(os.POSIX_SPAWN_DUP2, writer, stream) for stream in streams],
        )
    finally:
        os.close(writer)
    said = b""
    while chunk := os.read(reader, 65536):
        said += chunk
    os.close(reader)
    return said, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

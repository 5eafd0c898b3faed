"""Work in a forked child whose answer the caller takes: what it enters or becomes for that stays its own."""

from __future__ import annotations

import os

from rootless.errors import SetupError
from rootless.runtime import sync

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

# An answer's part, which has to fit into what Channel.receive reads at once; PREPARED follows the last.
_PART = b"+"
_PART_SIZE = 32768


def in_child(act: Callable[[], bytes], stage: Callable[[], str]) -> bytes:
    """What `act` gives in a child of the calling process; raises what it raised, told with the word of `stage`."""
    ours, theirs = sync.Channel.pair()
    pid = os.fork()
    if pid == 0:
        try:
            ours.close()
            answer = act()
            for at in range(0, len(answer), _PART_SIZE):
                theirs.send(_PART, answer[at : at + _PART_SIZE])
            theirs.send(sync.PREPARED)
        except BaseException as error:
            theirs.send(sync.FAILED, sync.encode_failure(stage(), error))
        finally:
            os._exit(0)
    theirs.close()
    parts: list[bytes] = []
    try:
        while True:
            kind, data, _ = ours.receive()
            if kind == sync.PREPARED:
                return b"".join(parts)
            if kind == sync.FAILED:
                raise sync.decode_failure(data)
            if not kind:
                raise SetupError(f"{stage()}: the child ended without an answer", stage=stage())
            parts.append(data)
    finally:
        ours.close()
        os.waitpid(pid, 0)

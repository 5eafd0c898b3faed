"""The channel of a start: what a side has said is heard, also after its end."""

from __future__ import annotations

import errno

import pytest

from rootless.errors import CommandNotFound, SetupError
from rootless.runtime import sync
from rootless.runtime.sync import Channel


def test_a_failure_is_heard_though_its_sender_left_something_unread() -> None:
    ours, theirs = Channel.pair()
    ours.send(sync.MAPPED)
    theirs.send(sync.FAILED, sync.encode_failure("mount", OSError(errno.EMFILE, "Too many")))
    theirs.close()
    with pytest.raises(SetupError, match="container's init, mount: too many") as caught:
        ours.expect(sync.PREPARED)
    assert caught.value.errno == errno.EMFILE
    ours.close()


def test_what_the_other_side_has_failed_at_so_far() -> None:
    ours, theirs = Channel.pair()
    assert ours.failure() is None
    theirs.send(sync.FAILED, sync.encode_failure("process", CommandNotFound("no x")))
    assert isinstance(ours.failure(), CommandNotFound)
    theirs.send(sync.PREPARED)
    assert ours.failure() is None
    theirs.close()
    assert ours.failure() is None
    ours.close()

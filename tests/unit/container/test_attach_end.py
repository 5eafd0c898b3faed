"""A monitor that ends before the command has attached: its last words are heard all the same."""

from __future__ import annotations

from rootless.container.attach import Session
from rootless.errors import RootlessError
from rootless.runtime import attach
from rootless.runtime.attach import Link
from rootless.runtime.sync import encode_failure


def test_a_start_that_failed_before_the_attachment_is_told() -> None:
    ours, theirs = Link.pair()
    theirs.send(attach.FAILED, encode_failure("", RootlessError("unknown user x", exit_code=126)))
    theirs.close()
    session = Session(ours, stdin=False, tty=False, sig_proxy=False)
    session.attach()
    while session.hear():
        pass
    assert session.failure is not None
    assert (session.failure.message, session.failure.exit_code) == ("unknown user x", 126)
    ours.close()

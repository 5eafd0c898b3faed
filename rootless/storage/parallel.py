"""A few threads over a list of work; the first error stops them all and is the one that is raised."""

from __future__ import annotations

import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import TypeVar

    T = TypeVar("T")


def run_all(
    work: Iterable[T],
    action: Callable[[T], None],
    threads: int,
    stop: Callable[[], None] = lambda: None,
) -> None:
    """Run action on every item, in order as threads become free.

    `stop` is called once after the first failure, to wake those who wait for a network.
    """
    waiting = list(work)[::-1]
    lock = threading.Lock()
    failed: list[BaseException] = []

    def fail(error: BaseException) -> None:
        with lock:
            failed.append(error)
            first = len(failed) == 1
        if first:
            stop()

    def loop() -> None:
        try:
            while True:
                with lock:
                    if failed or not waiting:
                        return
                    item = waiting.pop()
                action(item)
        except BaseException as error:
            fail(error)

    workers = [
        threading.Thread(target=loop, name=f"worker-{number}")
        for number in range(min(threads, len(waiting)) - 1)
    ]
    try:
        for worker in workers:
            try:
                worker.start()
            except RuntimeError:
                break  # no more threads for this user: those that there are do it
        loop()
    except BaseException as error:  # an interrupt between two items
        fail(error)
    for worker in workers:
        while worker.is_alive():
            try:
                worker.join()
            except BaseException as error:
                fail(error)
    if failed:
        # What the others fail of once they are stopped is not the reason.
        raise failed[0]

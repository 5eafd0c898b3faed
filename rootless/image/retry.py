"""What a registry's refusals are, which of them may pass, and how often and how soon to try again."""

from __future__ import annotations

import time

from rootless import log
from rootless.errors import RegistryError
from rootless.image.transport import ConnectionFailed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    T = TypeVar("T")

# Longer than this nobody waits at a prompt; the registry's own words are shown instead.
_RETRY_AFTER_MAX_S = 60.0
_BACK_OFF_MAX_S = 30.0


class AuthError(RegistryError):
    """The registry does not accept the credentials, or wants some."""


class NotThere(RegistryError):
    """The registry has no such manifest, blob or repository."""


class Retry:
    """How often and how soon to try again; shared by everything that one command fetches."""

    def __init__(
        self,
        count: int = 3,
        delay_s: float | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.count = count
        self.delay_s = delay_s
        self._sleep = sleep

    def pause(self, attempt: int, error: RegistryError) -> bool:
        """Wait before the next attempt; False where there shall be none."""
        if attempt >= self.count or not is_transient(error):
            return False
        wait = getattr(error, "retry_after_s", None)
        if wait is None and self.delay_s is not None:
            wait = self.delay_s
        elif wait is None:
            import random

            # Jitter keeps many clients of one fallen registry from coming back in step.
            wait = min(_BACK_OFF_MAX_S, 0.5 * 2**attempt) * random.uniform(0.75, 1.25)
        log.info(f"{error}; trying again in {wait:.1f} s")
        self._sleep(wait)
        return True

    def run(self, action: Callable[[], T]) -> T:
        attempt = 0
        while True:
            try:
                return action()
            except RegistryError as error:
                if not self.pause(attempt, error):
                    raise
                attempt += 1


class Overloaded(RegistryError):
    """429 or a 5xx: the registry may do it later."""

    def __init__(
        self, message: str, *, code: str = "", hint: str = "", retry_after_s: float | None = None
    ) -> None:
        super().__init__(message, code=code, hint=hint)
        self.retry_after_s = retry_after_s


def is_transient(error: RegistryError) -> bool:
    if isinstance(error, ConnectionFailed):
        return not error.permanent
    if isinstance(error, Overloaded):
        return error.retry_after_s is None or error.retry_after_s <= _RETRY_AFTER_MAX_S
    return False


def retry_after(text: str) -> float | None:
    """Read Retry-After: seconds or a date."""
    if not text:
        return None
    if text.isascii() and text.isdigit() and len(text) < 8:
        return float(text)
    from email.utils import parsedate_to_datetime

    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except ValueError:
        return None

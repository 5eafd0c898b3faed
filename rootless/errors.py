"""The engine's errors and the exit status that each one means.

    RootlessError            125  the engine failed
    ├── Usage                125  the command line is wrong
    ├── NotFound             125  no such container, image, volume, network
    ├── Conflict             125  the name or the thing is in use
    ├── InvalidState         125  the container is in the wrong state for it
    ├── InvalidReference     125  not an image reference
    ├── RegistryError        125  a registry said no (code: distribution-spec error code)
    ├── PolicyError          125  policy.json or registries.conf forbids it
    ├── SetupError           125  a step of a container's start failed (stage: which)
    ├── CommandNotExecutable 126  the container's command cannot be executed
    └── CommandNotFound      127  the container's command does not exist

A message names the object, the attempt and the cause, in lower case without a full stop; `hint` says what to do.
"""

from __future__ import annotations


class RootlessError(Exception):
    """An error that a user is meant to read."""

    exit_code = 125

    def __init__(self, message: str, *, hint: str = "", exit_code: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        if exit_code is not None:
            self.exit_code = exit_code

    def __str__(self) -> str:
        return self.message


class Usage(RootlessError):
    """The command line is wrong."""


class NotFound(RootlessError):
    """There is no such object."""


class Conflict(RootlessError):
    """The name or the object is in use."""


class InvalidState(RootlessError):
    """The object is in a state that does not allow this."""


class InvalidReference(RootlessError):
    """A string is not an image reference."""


class PolicyError(RootlessError):
    """policy.json or registries.conf forbids what was asked."""


class RegistryError(RootlessError):
    """A registry refused; `code` is the distribution-spec's error code."""

    def __init__(self, message: str, *, code: str = "", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.code = code


class SetupError(RootlessError):
    """A step of a container's start failed; `stage` names it, `errno` is the kernel's reason or 0."""

    def __init__(self, message: str, *, stage: str = "", errno: int = 0, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.stage = stage
        self.errno = errno


class CommandNotExecutable(RootlessError):
    """The container's command cannot be executed."""

    exit_code = 126


class CommandNotFound(RootlessError):
    """The container's command does not exist."""

    exit_code = 127

"""The front door: reads the command line, calls the one command, and turns every outcome into an exit status.

A budget applies here and to everything a hot command imports: tests/unit/test_imports.py lists the modules.
"""

from __future__ import annotations

import os
import sys


def _open_standard_streams() -> None:
    """Give a closed 0, 1 or 2 a /dev/null, lest the next file opened become standard output."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            # open(2) takes the lowest free number, and all below are open by now.
            os.open("/dev/null", os.O_RDONLY if number == 0 else os.O_WRONLY)
            os.set_inheritable(number, True)
    # The interpreter has no object for one that was closed; libraries count on it.
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)


def _flush() -> None:
    try:
        sys.stdout.flush()
    except OSError as error:
        from rootless.cli.output import unwritten

        raise unwritten(error) from None


def _drop_output() -> None:
    """Python flushes standard output once more at exit, which must not fail again."""
    os.dup2(os.open("/dev/null", os.O_WRONLY | os.O_CLOEXEC), 1)


def _reader_has_left() -> bool:
    """Whether nobody reads our output any more (poll(2), POLLERR)."""
    import select

    poll = select.poll()
    for number in (1, 2):
        poll.register(number, 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def _say(text: str) -> None:
    try:
        os.write(2, (text + "\n").encode("utf-8", "surrogateescape"))
    except OSError:
        pass  # nobody is listening


def _run(words: list[str]) -> int:
    from rootless.cli import parse

    try:
        invocation = parse.parse(words)
    except parse.HelpWanted as wanted:
        from rootless.cli import help

        return help.show(wanted.path, missing=wanted.missing)
    except parse.VersionWanted:
        from rootless.cli.version import one_line

        sys.stdout.write(one_line() + "\n")
        return 0
    settings = invocation.globals
    if settings["log-level"] != "warn":
        from rootless import log

        if not log.set_level(settings["log-level"]):
            _say(
                f'Log Level "{settings["log-level"]}" is not supported, choose from: '
                "trace, debug, info, warn, warning, error, fatal, panic"
            )
            return 1
    if settings["syslog"]:
        from rootless import log

        log.to_syslog()
    if settings["out"]:
        descriptor = os.open(
            settings["out"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666
        )
        os.dup2(descriptor, 1)
        os.close(descriptor)
    return invocation.command.main(invocation)


def _debugging(words: list[str]) -> bool:
    """Whether tracebacks were asked for. Read from argv itself, because reading it properly may be what failed."""
    for at, word in enumerate(words):
        if word in ("--log-level=debug", "--log-level=trace"):
            return True
        if word == "--log-level" and words[at + 1 : at + 2] in (["debug"], ["trace"]):
            return True
    return False


def _store(words: list[str]) -> str:
    """The store of a command that has failed, as far as its words and the environment say it."""
    for at, word in enumerate(words):
        if word.startswith("--root="):
            return word.removeprefix("--root=")
        if word == "--root" and words[at + 1 :]:
            return words[at + 1]
    from rootless import paths

    try:
        return paths.data_home()
    except Exception:
        return "/nowhere"  # what keeps it from being known is what is being told


def _report(error: BaseException, words: list[str]) -> int:
    """One line for whatever went wrong, and the exit status it means."""
    from rootless.cli.output import error_line
    from rootless.errors import RootlessError

    code = 125
    if isinstance(error, RootlessError):
        code = error.exit_code
        hint = error.hint
        if not hint and (error.__context__ is not None or getattr(error, "errno", None)):
            from rootless import causes

            hint = causes.remedy(error, _store(words))
        _say(error_line(error.message, hint))
    elif isinstance(error, (OSError, MemoryError)):
        from rootless import causes

        text = (
            causes.message(error, _store(words))
            if isinstance(error, OSError)
            else "cannot get memory"
        )
        _say(error_line(text, causes.remedy(error, _store(words))))
    else:
        said = " ".join(str(error).split())
        what = f"internal error: {type(error).__name__}: {said}".rstrip(": ")
        _say(
            error_line(
                what,
                "this is a bug; please report it with the output of the same command under --log-level debug",
            )
        )
    if _debugging(words):
        sys.excepthook(type(error), error, error.__traceback__)
    return code


def main(words: list[str] | None = None) -> int:
    """Run one command line, the process's own where none is given; its exit status."""
    words = sys.argv[1:] if words is None else words
    _open_standard_streams()
    try:
        if "_ROOTLESS_COMPLETE" in os.environ:
            from rootless.cli import help

            return help.complete()
        if words[:1] == ["quadlet-generator"]:  # systemd's generator, which no person calls
            from rootless.cli.quadlet import generator

            return generator(words[1:])
        status = _run(words)
        _flush()
        return status
    except BrokenPipeError as error:
        if not _reader_has_left():
            return _report(
                error, words
            )  # it was another pipe, and an end without a word would be a riddle
        # As other Unix tools do it: whoever read our output has seen enough.
        _drop_output()
        return 141
    except KeyboardInterrupt:
        return 130
    except SystemExit as request:
        return request.code if isinstance(request.code, int) else 0 if request.code is None else 125
    except Exception as error:
        try:
            _flush()
        except OSError as unwritten:
            _drop_output()
            if isinstance(error, OSError) and error.filename is None:
                error = unwritten
        try:
            return _report(error, words)
        except Exception as second:
            # Not even what says it can be loaded: no descriptors, no memory, a disk that fails.
            what = second if isinstance(second, OSError) else error
            where = f"{what.filename}: " if isinstance(what, OSError) and what.filename else ""
            _say(f"Error: {where}{getattr(what, 'strerror', None) or what}")
            return 125


if __name__ == "__main__":
    from rootless.start import seal

    seal()
    sys.exit(main())

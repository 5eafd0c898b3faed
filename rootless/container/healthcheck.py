"""Health checks, run by the container's own monitor: no timer units, no engine start, and none missing without systemd.

A check is a forked child of the monitor that does what `exec` does, with bounded output and time; the monitor's loop
waits for its report among everything else. `health.json` in the run folder holds what `inspect` shows, as Podman keeps
it; live.json holds the state's word alone, for lists. Semantics and words are those of Podman 5.4's libpod/healthcheck.go.

    monitor                                        child
    fork ────────────────────────────────────────► exec in the container, output read, killed at the time-out
         ◄── {"code": 1, "output": …} ───────────
    counts, health.json, event, on-failure action
"""

from __future__ import annotations

import os
import select
import time

from rootless import quickjson as json
from rootless.container import events
from rootless.container.execution import Exec, ExecOptions
from rootless.errors import CommandNotExecutable, CommandNotFound, InvalidState, RootlessError
from rootless.files import read_json, write_json
from rootless.linux import signal
from rootless.linux.fs import close_range
from rootless.linux.prctl import PR_SET_PDEATHSIG, prctl
from rootless.runtime import attach
from rootless.runtime.monitor import exit_code
from rootless.runtime.process import reset_signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

    from rootless.container.engine import Engine
    from rootless.runtime.monitor import Client, Monitor, Timer

RELOAD = b"reload"
STARTING, HEALTHY, UNHEALTHY = "starting", "healthy", "unhealthy"
_SECOND = 1_000_000_000
_DEFAULT_NS = 30 * _SECOND
_DEFAULT_RETRIES = 3
#: However much a check writes and whatever it was allowed to keep.
_OUTPUT_LIMIT = 1 << 20
#: What the monitor gives a check beyond its own time-out: entering may hang (a frozen cgroup).
_GRACE_S = 5.0
_LOCKED_S = 0.05
#: poll(2) counts milliseconds in an int.
_DAY_S = 86400.0


def merge(asked: dict[str, Any] | None, image: dict[str, Any] | None) -> dict[str, Any] | None:
    """The check of a container: what was asked for over the image's HEALTHCHECK, with defaults; None where it has none.

    An interval of 0 says that nothing but `healthcheck run` runs it.
    """
    found: dict[str, Any] = {}
    if image and (asked is None or "Test" not in asked):
        # In an image's configuration 0 means the default.
        found = {key: value for key, value in image.items() if value}
    found.update(asked or {})
    test = found.get("Test") or []
    if not test or test[0] in ("", "NONE"):
        return None
    if test[0] in ("CMD", "CMD-SHELL") and len(test) < 2:
        return None
    found.setdefault("Interval", _DEFAULT_NS)
    found.setdefault("Retries", _DEFAULT_RETRIES)
    found.setdefault("Timeout", _DEFAULT_NS)
    found.setdefault("StartPeriod", 0)
    return found


def command_of(test: list[str]) -> list[str]:
    """What a HEALTHCHECK's test runs."""
    if test[0] == "CMD":
        return test[1:]
    if test[0] == "CMD-SHELL":
        return ["/bin/sh", "-c", " ".join(test[1:])]
    return list(test)


def path_of(engine: Engine, identity: str) -> str:
    """The file of the check's results, in the run folder."""
    return f"{engine.containers.run_folder(identity)}/health.json"


def read(engine: Engine, identity: str) -> dict[str, Any] | None:
    """What the checks have come to so far, in the form that `inspect` shows; None where none has begun."""
    try:
        document: dict[str, Any] = read_json(path_of(engine, identity))
    except (FileNotFoundError, RootlessError):
        return None
    return document


class HealthWatch:
    """The checks of one run of a container, in its monitor's loop.

    `unhealthy` and `healthy` are called when the state becomes that one.
    """

    __slots__ = (
        "engine", "record", "monitor", "check", "startup", "started_ns", "state", "successes", "failures", "pidfd_child",
        "pipe", "begun_ns", "text", "waiting", "on_unhealthy", "on_healthy", "on_startup_failed", "told", "due", "deadline",
        "closed", "timer", "max_size", "max_count", "destination", "events_on",
    )  # fmt: skip

    def __init__(
        self,
        engine: Engine,
        record: dict[str, Any],
        monitor: Monitor,
        *,
        on_healthy: Callable[[], None],
        on_unhealthy: Callable[[], None],
        on_startup_failed: Callable[[], None],
    ) -> None:
        self.engine = engine
        self.record = record
        self.monitor = monitor
        self.check: dict[str, Any] = record["health"]
        options = record["options"]
        self.startup: dict[str, Any] | None = options.get("health_startup")
        self.max_size: int = options.get("health_max_log_size", 500)
        self.max_count: int = options.get("health_max_log_count", 5)
        self.destination: str = options.get("health_log_destination") or "local"
        self.events_on = engine.config._get("engine", "healthcheck_events") is not False
        self.started_ns = time.time_ns()
        self.state: dict[str, Any] = {"Status": STARTING, "FailingStreak": 0, "Log": []}
        self.successes = self.failures = 0
        self.pidfd_child = 0
        self.pipe = -1
        self.begun_ns = 0
        self.text = b""
        self.waiting: list[Client] = []
        self.on_healthy = on_healthy
        self.on_unhealthy = on_unhealthy
        self.on_startup_failed = on_startup_failed
        self.told = ""
        self.due = 0.0
        self.deadline = 0.0
        self.closed = False
        self.timer: Timer

    # times

    def begin(self) -> None:
        """The container runs: the first check is due now."""
        self._write()
        self.due = time.monotonic() + (0 if self._interval_s() < _DAY_S else _DAY_S)
        self.timer = self.monitor.after(0, self._tick)

    def _interval_s(self) -> float:
        interval: int = (self.startup or self.check).get("Interval") or 0
        return interval / _SECOND if interval else _DAY_S * 36500

    def _tick(self) -> float | None:
        """The loop's timer: begin what is due, end what is late; the seconds until the next look."""
        if self.closed:
            return None
        now = time.monotonic()
        if self.pipe >= 0:
            if now >= self.deadline:
                self._kill_child()  # the end of its report is its result
                self.deadline = now + _GRACE_S
        elif now >= self.due:
            self._start()
        until = self.deadline if self.pipe >= 0 else self.due
        return min(max(until - now, 0.01), _DAY_S)

    def ask(self, client: Client) -> None:
        """`healthcheck run`: a check now; where one is running, its result is as fresh."""
        self.waiting.append(client)
        if self.pipe < 0:
            self.due = self.timer.at = time.monotonic()

    # one check

    def _start(self) -> None:
        config = self.startup or self.check
        timeout_s = (config.get("Timeout") or _DEFAULT_NS) / _SECOND
        read_end, write_end = os.pipe2(os.O_CLOEXEC)
        self.begun_ns = time.time_ns()
        child = os.fork()
        if child == 0:
            _run_child(
                self.engine,
                self.record["id"],
                config["Test"],
                timeout_s,
                self._kept_bytes(),
                write_end,
            )
        os.close(write_end)
        os.set_blocking(read_end, False)
        self.pidfd_child = child
        self.pipe = read_end
        self.text = b""
        self.deadline = time.monotonic() + timeout_s + _GRACE_S
        self.monitor.watch(read_end, select.POLLIN, self._hear)

    def _kept_bytes(self) -> int:
        return min(self.max_size * 4, _OUTPUT_LIMIT) if self.max_size > 0 else _OUTPUT_LIMIT

    def _hear(self, fd: int) -> None:
        try:
            data = os.read(fd, 1 << 16)
        except BlockingIOError:
            return
        if data:
            self.text += data
            return
        self._reap()
        try:
            report = json.loads(self.text)
        except ValueError:
            report = {"code": -1, "output": "the check did not end within its time"}
        self.due = time.monotonic() + self._interval_s()
        if report.get("skipped"):
            self._answer("")
        else:
            self._finish(int(report["code"]), str(report["output"]))
        self.timer.at = min(self.due, time.monotonic() + _DAY_S)

    def _reap(self) -> None:
        if self.pipe >= 0:
            self.monitor.unwatch(self.pipe)
            os.close(self.pipe)
            self.pipe = -1
        if self.pidfd_child:
            os.waitpid(self.pidfd_child, 0)
            self.pidfd_child = 0

    def _kill_child(self) -> None:
        if self.pidfd_child:
            try:
                os.kill(
                    self.pidfd_child, signal.SIGKILL
                )  # not yet waited for: the number is still its own
            except ProcessLookupError:
                pass

    # results

    def _finish(self, code: int, output: str) -> None:
        ended_ns = time.time_ns()
        passed = code == 0
        before = self.state["Status"]
        startup = self.startup
        period_ns = self.check.get("StartPeriod") or 0
        in_start = startup is not None or self.begun_ns < self.started_ns + period_ns
        failed_startup = False
        if startup is not None:
            if passed:
                self.successes += 1
                if self.successes >= (startup.get("Successes") or 1):
                    self.startup = None  # from now on the regular check; its first is due at once
                    self.due = time.monotonic()
            else:
                self.successes = 0
                self.failures += 1
                failed_startup = (
                    bool(startup.get("Retries")) and self.failures >= startup["Retries"]
                )
        elif passed:
            self.state["Status"] = HEALTHY
            self.state["FailingStreak"] = 0
        elif not in_start:
            self.state["FailingStreak"] += 1
            if self.state["FailingStreak"] >= (self.check.get("Retries") or _DEFAULT_RETRIES):
                self.state["Status"] = UNHEALTHY
        if self.max_size > 0:
            output = output[: self.max_size]
        entry = {
            "Start": events.stamp(self.begun_ns),
            "End": events.stamp(ended_ns),
            "ExitCode": code,
            "Output": output,
        }
        log = [*self.state["Log"], entry]
        self.state["Log"] = log[-self.max_count :] if self.max_count > 0 else log[-1000:]
        self._write()
        if self.events_on:
            events.container_event(
                self.engine,
                self.record,
                "health_status",
                HealthStatus=self.state["Status"],
                **(
                    {"HealthFailingStreak": self.state["FailingStreak"]}
                    if self.state["FailingStreak"]
                    else {}
                ),
                **({"HealthLog": output} if self.destination == "events_logger" else {}),
            )
        self._answer(HEALTHY if passed else STARTING if startup is not None else UNHEALTHY)
        if failed_startup:
            self.on_startup_failed()
        elif self.state["Status"] == UNHEALTHY:
            self.on_unhealthy()  # at every check that finds it so: an action may not have been enough
        elif self.state["Status"] == HEALTHY and before != HEALTHY:
            self.on_healthy()

    def _answer(self, word: str) -> None:
        for client in self.waiting:
            if not client.gone:
                try:
                    client.link.send(attach.RESULT, word.encode())
                except OSError:
                    pass
        self.waiting = []

    def _write(self) -> None:
        try:
            write_json(path_of(self.engine, self.record["id"]), self.state)
            if os.path.isabs(self.destination):
                write_json(f"{self.destination}/{self.record['id']}-healthcheck.log", self.state)
        except OSError:
            pass  # a full disk: the next check writes again
        if self.state["Status"] != self.told and not self._tell_live():
            self.monitor.after(_LOCKED_S, self._tell_again)

    def _tell_live(self) -> bool:
        """Write the state's word where lists find it; False where somebody else is changing the file."""
        table = self.engine.containers
        lock = table.lock(self.record["id"], block=False)
        try:
            if not lock.acquire():
                return False
        except RootlessError:
            return True  # it is being removed
        try:
            live = table.read_live(self.record["id"])
            if live is not None:
                table.write_live(
                    self.record["id"], {**live, "health": {"Status": self.state["Status"]}}
                )
            self.told = self.state["Status"]
        except OSError:
            pass
        finally:
            lock.release()
        return True

    def _tell_again(self) -> float | None:
        if self.closed or self.state["Status"] == self.told or self._tell_live():
            return None
        return _LOCKED_S

    def close(self) -> None:
        """The run is over: end a check that has not ended with the container."""
        self.closed = True
        self._kill_child()
        self._reap()
        self._answer("stopped")


def _run_child(
    engine: Engine, identity: str, test: list[str], timeout_s: float, limit: int, report: int
) -> NoReturn:
    """One check, in a process of its own; never returns."""
    try:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        reset_signals()
        # Nothing of the monitor's: what the container and its clients hear ends when the monitor says so.
        fd = os.dup2(report, 3, inheritable=False)
        close_range(4)
        document: dict[str, object]
        try:
            code, output = _run(engine, identity, command_of(test), timeout_s, limit)
            document = {"code": code, "output": output}
        except (CommandNotFound, CommandNotExecutable) as error:
            document = {"code": 1, "output": str(error)}
        except InvalidState:
            document = {"skipped": True}  # paused, or it has just ended
        except Exception as error:
            document = {"code": 125, "output": str(error) or type(error).__name__}
        view = memoryview(json.dumps(document).encode())
        while view:
            view = view[os.write(fd, view) :]
    finally:
        os._exit(0)


def _run(
    engine: Engine, identity: str, command: list[str], timeout_s: float, limit: int
) -> tuple[int, str]:
    """(1 or 0, or -1 at the time-out; the beginning of its output)."""
    deadline = time.monotonic() + timeout_s
    session = Exec(engine, identity, ExecOptions(command))
    null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    session.execution.stdio = (null, write_end, write_end)
    session._create()
    os.close(null)
    os.close(write_end)
    execution = session.execution
    pidfd = os.pidfd_open(execution.pid)
    execution.started()
    os.set_blocking(read_end, False)
    poll = select.poll()
    poll.register(read_end, select.POLLIN)
    poll.register(pidfd, select.POLLIN)
    kept = bytearray()

    def take() -> bool:
        """Read once; whether more may come. All is read, so that the check does not block, and little kept."""
        try:
            data = os.read(read_end, 1 << 16)
        except BlockingIOError:
            return False
        kept.extend(data[: limit - len(kept)])
        return bool(data)

    while True:
        left = deadline - time.monotonic()
        ready = [fd for fd, _ in poll.poll(int(left * 1000) + 1)] if left > 0 else []
        if left <= 0:
            try:
                os.killpg(
                    execution.pid, signal.SIGKILL
                )  # it leads a session, and is not waited for yet
            except ProcessLookupError:
                pass
            os.waitpid(execution.pid, 0)
            return -1, bytes(kept).decode("utf-8", "replace")
        if pidfd in ready:
            while take():
                pass
            _, status = os.waitpid(execution.pid, 0)
            return (1 if exit_code(status) else 0), bytes(kept).decode("utf-8", "replace")
        if read_end in ready and not take():
            poll.unregister(read_end)  # it has closed its output, and runs on


def reload(engine: Engine, identity: str) -> None:
    """Have a running container's monitor read its record again; where it does not run, there is nothing to tell."""
    try:
        link = attach.Link.connect(engine.containers.run_folder(identity))
    except OSError:
        return
    try:
        link.send(attach.RUN, RELOAD)
        kind = b"?"
        while kind not in (b"", attach.RESULT, attach.EXITED):
            kind = link.receive()[0]
    finally:
        link.close()


def run_now(engine: Engine, identity: str) -> str:
    """Have the monitor run a check; "healthy", "unhealthy", "starting" or "stopped"."""
    from rootless.container.status import PAUSED, RUNNING, status_of

    status = status_of(engine, identity)
    if not status.record.get("health"):
        raise RootlessError(f"container {status.name} has no defined healthcheck")
    if status.word == PAUSED:
        raise InvalidState(f"container {status.name} is paused: unpause it first")
    if status.word != RUNNING:
        raise InvalidState(f"container {status.name} is not running")
    try:
        link = attach.Link.connect(engine.containers.run_folder(identity))
    except OSError:
        raise InvalidState(f"container {status.name} is not running") from None
    try:
        link.send(attach.RUN)
        while True:
            kind, data, _ = link.receive()
            if kind == attach.RESULT:
                if not data:
                    raise InvalidState(
                        f"container {status.name}: the check could not be run: it is paused or has ended"
                    )
                return data.decode()
            if not kind or kind == attach.EXITED:
                return "stopped"
    finally:
        link.close()

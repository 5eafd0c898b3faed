"""A container's start and all that its monitor does for the engine: network, cgroup, record, log, restart, removal.

`start` forks the monitor, which is the command's own copy: every module that it needs is loaded. The order:

    command                         monitor                                       init
    lock, spec, folders
    fork ─────────────────────────► session, pipes, clone ──────────────────────► namespaces
                                    id maps, cgroup, network helper (not waited for)
                                    ───────────────────────────────────────────► root, mounts, user
                                    waits for the network; live.json
    ◄── RUNNING pid ─────────────── ───────────────────────────────────────────► execve
    unlock                          output, timers, clients … until init's end
    ◄── EXITED code ─────────────── state.json, event, network down, restart or removal
"""

from __future__ import annotations

import gc
import os
import time

from rootless.container import events, idle
from rootless.container.facts import Preparation, prepare
from rootless.container.inside import preparer
from rootless.container.logs import DEFAULT_MAX_FILES, FileLog
from rootless.container.requirements import start_first
from rootless.errors import InvalidState, RootlessError
from rootless.files import write_atomic
from rootless.linux.process import set_name, set_title, start_time
from rootless.runtime import attach, delegation, hooks
from rootless.runtime.attach import Link
from rootless.runtime.launch import Launch
from rootless.runtime.monitor import Monitor, exit_code, leave_session
from rootless.runtime.sync import encode_failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

    from rootless.container.engine import Engine
    from rootless.container.healthcheck import HealthWatch
    from rootless.container.service import Service
    from rootless.runtime.monitor import Client, Log

_KILL = 9
# A hundred starts at once do not pay for a hundred new interpreters as well, nor does a container that ends soon. The
# variable is for tests.
_SETTLE_S = float(os.environ.get("ROOTLESS_SETTLE_S", "60"))


def start(
    engine: Engine, identity: str, *, attached: bool = False, init_only: bool = False
) -> Link | None:
    """Start a container's monitor and, through it, its program; the link to it, None where it runs already.

    With `attached` the link's first message has to be ATTACH: the program begins after it, so that no output is lost.
    Raises what the start met; the container is then as it was.
    """
    from rootless.container.lifecycle import wait_monitor
    from rootless.container.status import (
        CREATED,
        EXITED,
        INITIALIZED,
        PAUSED,
        RUNNING,
        STOPPING,
        settle,
        status_of,
    )

    start_first(engine, identity)
    while True:
        lock = engine.containers.lock(identity)
        with lock:
            settle(engine, identity)
            status = status_of(engine, identity)
            if status.word == STOPPING:
                live = status.live
            elif status.word in (RUNNING,) and not init_only:
                return None
            elif status.word == PAUSED:
                raise InvalidState(f"container {status.name} is paused: unpause it first")
            elif status.word == INITIALIZED and not init_only:
                link = Link.connect(engine.containers.run_folder(identity))
                if not attached:
                    link.send(attach.START)
                return link
            elif status.word not in (CREATED, EXITED):
                raise InvalidState(
                    f"container {identity} has already been initialized: container state improper"
                )
            else:
                return _fork_monitor(
                    engine, status.record, lock.fd, attached=attached, init_only=init_only
                )
        wait_monitor(engine, identity, live)


def _fork_monitor(
    engine: Engine, record: dict[str, Any], lock_fd: int, *, attached: bool, init_only: bool
) -> Link:
    service = _service(engine, record)
    preparation = prepare(engine, record, service)
    engine.containers.clear_live(record["id"])
    if record.get("health"):
        from rootless.container import healthcheck  # noqa: F401  # loaded once, not by each check's child
    ours, theirs = Link.pair()
    gc.freeze()  # what is there now is never garbage, and collecting it in the monitor would copy its pages
    pid = os.fork()
    if pid == 0:
        try:
            ours.close()
            os.close(lock_fd)
            if service is not None and os.fork():
                # systemd's own child it shall be, whose end is waited for at every stop.
                os._exit(0)
            supervisor = Supervisor(
                engine, record, preparation, theirs, attached=attached, init_only=init_only
            )
            supervisor.service = service
            supervisor.run()
        finally:
            os._exit(1)
    if service is not None:
        os.waitpid(pid, 0)
    theirs.close()
    preparation.close()
    return ours


def _service(engine: Engine, record: dict[str, Any]) -> Service | None:
    """What systemd wants to be told or has opened; and the streams that a container gets as they are."""
    driver = record["options"].get("log_driver", "")
    if driver.startswith("passthrough"):
        from rootless.container.service import check_passthrough

        check_passthrough(driver)
    if "NOTIFY_SOCKET" not in os.environ and "LISTEN_FDS" not in os.environ:
        return None
    from rootless.container.options import CreateOptions
    from rootless.container.service import find

    return find(
        CreateOptions.from_json(record["options"]), engine.containers.run_folder(record["id"])
    )


class Supervisor:
    """The monitor of one container, over all its restarts."""

    __slots__ = (
        "engine", "record", "preparation", "options", "monitor", "link", "attached", "init_only", "restarts", "identity",
        "run_folder", "network", "cgroup", "log", "started_at", "may_start", "lost_network", "first", "init_pid",
        "health", "restart_wanted", "service", "code",
    )  # fmt: skip

    def __init__(
        self,
        engine: Engine,
        record: dict[str, Any],
        preparation: Preparation,
        link: Link,
        *,
        attached: bool,
        init_only: bool,
    ) -> None:
        self.engine = engine
        self.record = record
        self.identity: str = record["id"]
        self.preparation = preparation
        self.options = preparation.options
        self.link = link
        self.attached = attached
        self.init_only = init_only
        self.restarts = 0
        self.run_folder = engine.containers.run_folder(self.identity)
        self.network: Any = None
        self.cgroup: Any = None
        self.log: Log | None = None
        self.started_at = 0
        self.may_start = not init_only
        self.lost_network = False
        self.init_pid = 0
        self.health: HealthWatch | None = None
        self.restart_wanted = False
        self.service: Service | None = None
        self.code = 0

    def run(self) -> NoReturn:
        """The process's whole life."""
        code = 1
        try:
            leave_session(keep_streams=self._passes_streams(), keep=self.preparation.preserve_fds)
            set_name(idle.NAME)
            set_title(idle.title(self.identity))
            os.umask(0o022)
            self.monitor = Monitor(
                listener=attach.listen(self.run_folder),
                log=None,
                wants_stdin=bool(self.options.interactive),
            )
            self.monitor.forward_signals()
            self.monitor.on_start = self._allow_start
            self.first = self.monitor.add_client(self.link)
            if self.attached and self.options.rm:
                self.monitor.reader = self.first
            code = self._run(again=True)
        except BaseException as error:
            self._failed_start(error)
        finally:
            os._exit(code)

    # between two interpreters: dormancy.py

    def wake(self, monitor: Monitor) -> None:
        """Go on in a new interpreter, in whose loop `monitor` is."""
        self.monitor = monitor
        self.log = monitor.log
        self._watch()

    def end(self, status: int) -> NoReturn:
        """Do in a new interpreter what follows init's end, until the last one's."""
        code = 1
        try:
            code = self._run(again=self._ended(status))
        except BaseException as error:
            self._failed_start(error)
        finally:
            os._exit(code)

    def _allow_start(self) -> None:
        self.may_start = True

    def _run(self, *, again: bool) -> int:
        """Run until there is no restart; the last run's exit status."""
        while again:
            again = self._run_once()
        return self.code

    # one run

    def _run_once(self) -> bool:
        """Start init, serve until its end, and do what follows; whether to start once more."""
        launch = self._create()
        try:
            status = self._serve(launch)
        except BaseException:
            launch.abort()
            self._release()
            raise
        launch.close()
        return self._ended(status)

    def _create(self) -> Launch:
        monitor = self.monitor
        terminal = bool(self.options.tty)
        # Streams that are passed on are ours as init inherits them: nothing of them changes hands.
        stdio = None if terminal or self._passes_streams() else monitor.make_stdio()
        launch = self._launch(stdio)
        try:
            if self.service is not None:
                self.service.begin()
            launch.create()
            self._connect(launch)
            launch.mapped()
            self.log = monitor.log = self._open_log()
            launch.prepared()
            if self.network is not None:
                self.network.wait_ready()
        except BaseException:
            launch.abort()
            self._release()
            raise
        finally:
            if stdio is not None:
                monitor.stdin_read = -1
                for fd in stdio:
                    os.close(fd)
        if terminal:
            monitor.take_terminal(launch.console)
            launch.console = -1
        return launch

    def _launch(self, stdio: tuple[int, int, int] | None) -> Launch:
        prepared = self.preparation
        outer = prepared.outer or (prepared.link.outer() if prepared.link is not None else None)
        if self.record.get("runtime"):
            from rootless.container.runtimes import external
            from rootless.runtime.external.launch import ExternalLaunch

            runtime = external(self.engine, self.record)
            assert runtime is not None
            return ExternalLaunch(
                prepared.spec,
                prepared.root,
                runtime,
                stdio=stdio,
                preserve_fds=prepared.preserve_fds,
                in_root=self._in_root(),
                identity=self.identity,
                outer=outer,
            )
        return Launch(
            prepared.spec,
            prepared.root,
            stdio=stdio,
            preserve_fds=prepared.preserve_fds,
            in_root=self._in_root(),
            cache=self.engine.paths.cache,
            identity=self.identity,
            bundle=self.engine.containers.path(self.identity),
            outer=outer,
        )

    def _passes_streams(self) -> bool:
        return bool(self.options.log_driver.startswith("passthrough"))

    def _in_root(self) -> Callable[[dict[str, Any]], None]:
        prepare_root = preparer(self.options)
        service = self.service
        if service is None:
            return prepare_root
        pid = 0
        if self.record.get("runtime") and service.activation is not None:
            from rootless.container.runtimes import pid_inside

            pid = pid_inside(self.record, self.preparation.spec)

        def both(process: dict[str, Any]) -> None:
            prepare_root(process)
            service.add_pid(process, pid or os.getpid())

        return both

    def _open_log(self) -> Log | None:
        driver = self.options.log_driver
        if driver == "none" or self._passes_streams():
            return None
        log = FileLog(
            self.record["log_path"],
            self.record.get("log_max_size", 0),
            self.record.get("log_max_files", DEFAULT_MAX_FILES),
        )
        if driver != "journald":
            return log
        from rootless.systemd.journal import JournalLog

        return JournalLog(log, self.identity, self.record["name"], self.record.get("log_tag", ""))

    def _connect(self, launch: Launch) -> None:
        """cgroup and network, while init makes the root: they exist before the user's program does."""
        self.preparation.cgroup.enter(launch.pid, os.getpid())
        self.cgroup = self.preparation.cgroup.cgroup
        if self.cgroup is not None and delegation.is_writable(self.preparation.spec):
            delegation.hand_over(self.cgroup.path, self.preparation.spec)
        if self.preparation.network is not None:
            try:
                self.network = self.preparation.network(launch.pid, launch.netns, launch.userns)
            except BaseException:
                if (cause := launch.why_ended()) is not None:
                    raise cause from None  # and so there is no namespace to be connected
                raise

    def _serve(self, launch: Launch) -> int:
        monitor = self.monitor
        monitor.begin(launch.pid)
        self.init_pid = launch.pid
        is_initialized = not self.may_start
        if is_initialized:
            self._write_live(launch.pid, "initialized")
            events.container_event(self.engine, self.record, "init")
            monitor.tell(attach.RUNNING, b"")
            monitor.wait_for(lambda: self.may_start)
            if not self.may_start:
                return monitor.serve()
        if self.attached:
            # Whoever started us is attached before the first byte is written.
            while not (self.first.attached or self.first.gone):
                monitor.hear(self.first)
            self.attached = False
        self.started_at = time.time_ns()
        self._write_live(launch.pid, "running")
        launch.start()
        if not is_initialized:
            events.container_event(self.engine, self.record, "init")
        events.container_event(self.engine, self.record, "start")
        for path, pid in (
            (self.options.pidfile, launch.pid),
            (self.options.conmon_pidfile, os.getpid()),
        ):
            if path:
                write_atomic(path, str(pid).encode(), 0o644)
        if self.service is not None:
            self.service.running(monitor)
        monitor.tell(attach.RUNNING, str(launch.pid).encode())
        try:
            # What a reboot leaves of this run: that there was one.
            self.engine.containers.write_state(self.identity, {"started_at": self.started_at})
        except OSError:
            pass  # a full disk, or removed already
        self._hooks("poststart", "running", launch.pid)
        if self.options.timeout:
            monitor.after(self.options.timeout, self._kill)
        if self.record.get("health"):
            self._watch_health()
        self._watch()
        return monitor.serve()

    def _watch(self) -> None:
        monitor = self.monitor
        monitor.on_action = self._act
        if self.network is not None and not self.lost_network and self.network.helper_pidfd() >= 0:
            monitor.watch(self.network.helper_pidfd(), 1, self._helper_died)
        monitor.after(_SETTLE_S, self._settle)

    def _settle(self) -> float:
        """Whatever the start has loaded is not needed until the end: leave it behind."""
        from rootless.container.dormancy import sleep

        sleep(self, _SETTLE_S)
        return _SETTLE_S  # something is under way: later

    def _kill(self) -> None:
        self.monitor.kill(_KILL)

    def _hooks(self, moment: str, status: str, pid: int) -> None:
        spec = self.preparation.spec
        if hooks.has(spec, moment):
            bundle = self.engine.containers.path(self.identity)
            hooks.run_leniently(
                spec, moment, hooks.state_document(spec, self.identity, bundle, status, pid)
            )

    def _act(self, client: Client, argument: bytes) -> None:
        """`healthcheck run`, or `update` has changed the check."""
        if argument:
            self.record = self.engine.containers.read(self.identity)
            self.options.health_on_failure = self.record["options"].get("health_on_failure", "none")
            if self.health is not None:
                self.health.close()
                self.health = None
            if self.record.get("health"):
                self._watch_health()
        elif self.health is not None:
            self.health.ask(client)
            return
        client.link.send(attach.RESULT)

    def _watch_health(self) -> None:
        from rootless.container.healthcheck import HealthWatch

        self.health = HealthWatch(
            self.engine,
            self.record,
            self.monitor,
            on_healthy=self._healthy,
            on_unhealthy=self._unhealthy,
            on_startup_failed=self._restart_unhealthy,
        )
        self.health.begin()

    def _healthy(self) -> None:
        if self.service is not None:
            self.service.healthy()

    def _unhealthy(self) -> None:
        """--health-on-failure: what follows from it (a restart) is the usual way at init's end."""
        action = self.options.health_on_failure
        if action == "kill":
            self.monitor.kill(_KILL)
        elif action == "restart":
            self._restart_unhealthy()
        elif action == "stop":
            with open(f"{self.run_folder}/stop", "wb"):
                pass  # no restart policy answers it
            self._end_program()

    def _restart_unhealthy(self) -> None:
        self.restart_wanted = True
        self._end_program()

    def _end_program(self) -> None:
        self.monitor.kill(int(self.record["stop_signal"]))
        self.monitor.after(max(self.record["stop_timeout"], 0), self._kill)

    def _helper_died(self, fd: int) -> None:
        """A network helper's end is told in the log; where it cannot be replaced, the container goes on without."""
        goes_on = self.network.handle()
        if goes_on:
            self._write_live(self.init_pid, "running")
        else:
            self.monitor.unwatch(fd)
            self.lost_network = True
        if self.network.news and self.log is not None:
            lost = "" if goes_on else "; this container has no network any more"
            self.log.write(2, f"rootless: {self.network.news}{lost}\n".encode())

    def _write_live(self, pid: int, phase: str) -> None:
        me = os.getpid()
        live: dict[str, Any] = {
            "monitor": [me, start_time(me)],
            "init": [pid, start_time(pid)],
            "phase": phase,
            "started_at": self.started_at,
            "restarts": self.restarts,
        }
        if self.cgroup is not None:
            live["cgroup"] = self.cgroup.path
            live["scope"] = self.cgroup.unit
        if self.network is not None:
            live["network"] = self.network.to_json()
        if self.health is not None:
            live["health"] = {"Status": self.health.state["Status"]}
        self.engine.containers.write_live(self.identity, live)

    # ends

    def _release(self) -> None:
        self.preparation.root.close()
        if self.network is not None:
            helper = self.network.helper_pidfd()
            if helper >= 0:
                self.monitor.unwatch(helper)
            self.network.close()
            self.network = None
        if self.cgroup is not None:
            self.cgroup.remove()
            self.cgroup = None

    def _ended(self, status: int) -> bool:
        monitor = self.monitor
        code = self.code = exit_code(status)
        if self._stop_wanted() and code == 128 + int(self.record["stop_signal"]):
            self.code = 0  # to systemd, whose main process we may be: it ended as it was asked to
        oom = bool(self.cgroup is not None and self.cgroup.oom_killed())
        if self.log is not None:
            self.log.close()
            self.log = monitor.log = None
        health = None
        if self.health is not None:
            self.health.close()
            health = self.health.state
            self.health = None
        if self.service is not None:
            self.service.ended(monitor)
        self._release()
        monitor.close()
        state: dict[str, Any] = {
            "exit_code": code,
            "oom": oom,
            "started_at": self.started_at,
            "finished_at": time.time_ns(),
            "restarts": self.restarts,
        }
        if health is not None:
            state["health"] = health
        table = self.engine.containers
        table.write_state(self.identity, state)
        try:
            self.record = table.read(self.identity)  # it may have been renamed meanwhile
        except RootlessError:
            pass
        if oom:
            events.container_event(self.engine, self.record, "oom")
        events.container_event(self.engine, self.record, "died", ContainerExitCode=code)
        self._hooks("poststop", "stopped", 0)
        if self._restarts(code):
            self.restarts += 1
            live = table.read_live(self.identity)
            if live is not None:
                table.write_live(self.identity, {**live, "phase": "restarting"})
            if self.restarts > 1:
                self._pause(min(0.1 * 2 ** min(self.restarts, 7), 10))
            if not self._stop_wanted():
                fresh = table.read(self.identity)
                self.record = fresh
                before = self.preparation
                self.preparation = prepare(self.engine, fresh, self.service)
                if before.link is not None:
                    before.link.close()  # only now: the networks' router would end with its last line
                events.container_event(self.engine, self.record, "restart")
                return True
        if self.service is not None:
            self.service.close()
        table.clear_live(self.identity)
        if self.options.rm and not self._restarts_by_command():
            self._remove()
        else:
            events.container_event(self.engine, self.record, "cleanup")
        monitor.tell(attach.EXITED, str(code).encode())
        return False

    def _pause(self, seconds: float) -> None:
        """Wait between two runs, unless a stop is wanted meanwhile."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not self._stop_wanted():
            time.sleep(0.05)

    def _stop_wanted(self) -> bool:
        return os.path.exists(f"{self.run_folder}/stop")

    def _restarts(self, code: int) -> bool:
        if self._stop_wanted() or not os.path.exists(self.engine.containers.path(self.identity)):
            return False
        if self.restart_wanted:
            self.restart_wanted = False
            return True
        kept = self.engine.containers.read(self.identity)[
            "options"
        ]  # `update` may have changed the policy
        policy, tries = kept.get("restart", "no"), kept.get("restart_tries", 0)
        if policy in ("", "no"):
            return False
        if policy == "on-failure":
            return code != 0 and (tries <= 0 or self.restarts < tries)
        return True

    def _restarts_by_command(self) -> bool:
        from rootless.container.lifecycle import Restarting

        return bool(Restarting(self.engine, self.identity))

    def _remove(self) -> None:
        from rootless.container.lifecycle import delete

        try:
            with self.engine.containers.lock(self.identity):
                delete(self.engine, self.engine.containers.read(self.identity))
        except RootlessError:
            pass  # somebody else's `rm -f` was faster

    def _failed_start(self, error: BaseException) -> None:
        """A start that failed leaves the container as it was before."""
        try:
            self._release()
            table = self.engine.containers
            table.clear_live(self.identity)
            state = table.read_state(self.identity)
            if self.restarts:
                state["error"] = str(error)
            else:
                state.update(error=str(error))
                if isinstance(error, RootlessError):
                    state["exit_code"] = error.exit_code
            table.write_state(self.identity, state)
        finally:
            monitor = getattr(self, "monitor", None)
            if monitor is None:  # not even that far
                self.link.send(attach.FAILED, encode_failure("", error))
            else:
                monitor.tell_failure(error)


def release(engine: Engine, record: dict[str, Any], live: dict[str, Any]) -> None:
    """What a killed monitor could not do: end what it left behind, record that it died."""
    if live.get("network"):
        from rootless import netconnection

        netconnection.release(live["network"])
    if live.get("cgroup"):
        from rootless.runtime import cgroup

        cgroup.Cgroup(live["cgroup"], live.get("scope", "")).remove()
    events.container_event(engine, record, "died", ContainerExitCode=137)

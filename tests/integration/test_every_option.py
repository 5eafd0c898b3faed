"""Every option of Podman's life-cycle and volume commands does what it says, or is refused with the reason.

TABLE holds those that no other test calls with their command; `test_every_option_is_called` counts them all, by the list
of Podman 5.4.2's options in tests/data/podman/options.json.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
from pathlib import Path

import pytest

from rootless.cli.table import ALIASES, GROUPS, load
from tests.support import images
from tests.support.engine import Engine
from tests.support.pseudo import Terminal
from tests.support.surface import is_absent

OPTIONS: dict[str, list[list[str]]] = json.loads(
    Path(__file__).parents[1].joinpath("data/podman/options.json").read_text()
)
#: The issue's commands: containers, the engine, volumes.
COUNTED = (
    *"run create start stop restart kill rm ps logs exec attach wait inspect top pause unpause rename init cp diff".split(),
    *"export import load events info version unshare stats port update mount unmount".split(),
    "container exists", "container prune", "container cleanup",
    "system prune", "system reset", "system migrate", "system renumber", "system df",
    *(f"volume {name}" for name in "create ls inspect exists rm prune export import mount unmount reload".split()),
)  # fmt: skip

# A step: words, and what comes of them: the whole output, a part of it after "~", an error's part after "!".
Step = tuple[str, str]
CGROUP = "?cannot set"  # works, or is refused where no cgroup is delegated
RUN = "run --rm --network none"
TABLE: dict[str, list[Step]] = {
    # process and files
    "run --unsetenv-all": [(f"{RUN} --unsetenv-all host env", "~HOSTNAME="), (f"{RUN} --unsetenv-all host printenv PATH", "!")],
    "run --no-hostname": [(f"{RUN} --no-hostname --hostname x host cat /etc/hostname", "")],
    "run --hosts-file": [
        (f"{RUN} --hosts-file FOLDER/hosts host cat /etc/hosts", "~10.1.2.3\tthere"),
        (f"{RUN} --hosts-file none host grep there /etc/hosts", "!"),
    ],
    "run --group-entry": [(f"{RUN} --user 4444:77 --group-entry zz:x:$GID: host tail -n1 /etc/group", "zz:x:77:")],
    "run --init-path": [
        (f"{RUN} --init --init-path /nope host true", "!--init: /nope is not there"),
        (f"{RUN} --init --init-path /usr/bin/env host echo there", "there"),
    ],
    "run --systemd": [
        (f"{RUN} --systemd x host true", '!must be one of "true, false, always"'),
        (f"{RUN} --systemd always host true", "?systemd needs a cgroup of its own"),
        (f"{RUN} --systemd false host true", ""),
    ],
    "run --shm-size-systemd": [(f"{RUN} --shm-size-systemd x host true", "!unable to translate --shm-size-systemd")],
    "run --subuidname": [(f"{RUN} --subuidname nobody host true", '!no subuid ranges found for user "nobody"')],
    "run --subgidname": [(f"{RUN} --subgidname nobody host true", '!no sub')],
    "run --cgroupns": [
        (f"{RUN} --cgroupns host host test /proc/self/ns/cgroup -ef /proc/1/ns/cgroup", ""),
        (f"{RUN} --cgroupns x host true", "!unrecognized namespace mode x passed"),
    ],
    **{
        f"run --{name}": [(f"{RUN} --{name} {value} host true", CGROUP)]
        for name, value in {"cpu-period": "5000", "cpu-quota": "5000", "memory-reservation": "10m"}.items()
    },
    "run --cpu-rt-runtime": [(f"{RUN} --cpu-rt-runtime 5 host true", "!--cpu-rt-runtime: realtime CPU limits")],
    "run --cpuset-mems": [(f"{RUN} --cpuset-mems 0 host true", CGROUP)],
    "run --device-cgroup-rule": [(f"{RUN} --device-cgroup-rule c host true", "!--device-cgroup-rule: device cgroup rules")],
    "run --device-read-iops": [(f"{RUN} --device-read-iops /dev/null:x host true", "!invalid rate for device")],
    "run --device-write-bps": [(f"{RUN} --device-write-bps /dev/null:x host true", "!invalid rate for device")],
    "run --network-alias": [(f"{RUN} --network-alias x host true", "!--network-alias can only be set when")],
    "run --health-startup-retries": [
        ("create --name h --network none --health-cmd true --health-startup-cmd false --health-startup-retries 7 "
         "--health-startup-timeout 9s host true", "~"),
        ("inspect h --format {{.Config.StartupHealthCheck.Retries}}:{{.Config.StartupHealthCheck.Timeout}}", "7:9s"),
    ],
    # starting and stopping: a and b run, c was only made
    "start --all": [("stop -t 0 a b", "~"), ("start --all", "~"), ("ps -q --filter status=running", "#3")],
    "start --filter": [("stop -t 0 a b", "~"), ("start --filter name=a", "~"), ("ps --format {{.Names}}", "a")],
    "start --latest": [("start --latest", "~"), ("ps --format {{.Names}}", "a\nb\nc")],
    "stop --filter": [("stop -t 0 --filter name=a", "~"), ("ps --format {{.Names}}", "b")],
    "stop --latest": [("start c", "c"), ("stop -t 0 --latest", "~"), ("ps --format {{.Names}}", "a\nb")],
    "restart --all": [("restart -t 0 --all", "#3"), ("ps -q", "#3")],
    "restart --running": [("restart -t 0 --running", "#2"), ("ps -q", "#2")],
    "restart --latest": [("restart -t 0 --latest", "#1"), ("ps -q", "#3")],
    "restart --filter": [("restart -t 0 --filter label=is=a", "#1"), ("restart --filter label=is=z", "")],
    "restart --cidfile": [("restart -t 0 --cidfile FOLDER/a.cid", "#1")],
    "kill --cidfile": [("kill --cidfile FOLDER/a.cid", "#1"), ("wait a", "137"), ("ps --format {{.Names}}", "b")],
    "rm --filter": [("rm --filter status=created", "#1"), ("ps -aq", "#2")],
    "pause --all": [("pause --all", "#2"), ("ps -q --filter status=paused", "#2"), ("unpause --all", "#2")],
    "pause --cidfile": [("pause --cidfile FOLDER/a.cid", "#1"), ("unpause --cidfile FOLDER/a.cid", "#1")],
    "pause --filter": [("pause --filter label=is=a", "#1"), ("unpause --filter label=is=a", "#1")],
    "unpause --latest": [("start c", "c"), ("pause --latest", "#1"), ("unpause --latest", "#1"), ("ps -q --filter status=paused", "")],
    "init --latest": [("init --latest", "#1"), ("ps -a --filter name=c --format {{.State}}", "initialized")],
    # looking
    "ps --external": [("ps --external --format {{.Names}}", "a\nb")],
    "ps --pod": [("ps --pod --noheading", "~localhost/host:latest")],
    "ps --sync": [("ps --sync -q", "#2")],
    "logs --latest": [("start c", "c"), ("stop -t 0 c", "c"), ("logs --latest", "from c")],
    "logs --names": [("start c", "c"), ("stop -t 0 c", "c"), ("logs --names a c", "c from c")],
    "logs --color": [("start c", "c"), ("stop -t 0 c", "c"), ("logs --color c", "\x1b[37mfrom c\x1b[0m")],
    "logs --since": [("start c", "c"), ("stop -t 0 c", "c"), ("logs --since 1h c", "from c"), ("logs --since 0s c", "")],
    "logs --until": [("start c", "c"), ("stop -t 0 c", "c"), ("logs --until 2000-01-01 c", ""), ("logs --until 1h c", "from c")],
    "wait --ignore": [("wait --ignore nobody", "-1"), ("wait nobody", "!no such container")],
    "wait --interval": [("wait --interval 1ms --condition running a", "-1"), ("wait --interval x a", "!")],
    "wait --latest": [("wait --latest --condition created", "-1")],
    "events --no-trunc": [("events --stream=false --since 1m --no-trunc=false --filter event=create --filter container=a", "~(image=")],
    "container exists --external": [("container exists --external a", ""), ("container exists --external nobody", "!")],
    "stats --interval": [("stats --no-stream --interval 1 --no-reset a", "~NAME")],
    "stats --latest": [("start c", "c"), ("stats --no-stream --latest --format {{.Name}}", "c")],
    "port --all": [("port --all", "")],
    "port --latest": [("port --latest", ""), ("port --latest --all", "!")],
    # exec
    "exec --env-file": [("exec --env-file FOLDER/env a printenv FROM", "the file")],
    "exec --privileged": [("exec --privileged a grep -c CapEff:.*00000800405fb /proc/self/status", "!")],
    "exec --preserve-fds": [("exec --preserve-fds 1 a true", "!file descriptor 3 is not available - the preserve-fds option")],
    "exec --preserve-fd": [("exec --preserve-fd 3 a true", "!file descriptor 3 is not available - the preserve-fd option")],
    "exec --detach-keys": [("exec --detach-keys ctrl-a a echo there", "there")],
    # clearing up
    "container cleanup --all": [("container cleanup --all", "~")],
    "container cleanup --latest": [("container cleanup --latest", "~")],
    "container cleanup --exec": [("container cleanup --exec x a", "!no exec session with ID x found")],
    "container cleanup --rmi": [("container cleanup --rmi a", "!is running, refusing to clean up")],
    "system prune --external": [("system prune --force --external", "!--external is not supported")],
    "system prune --build": [("system prune --force --build", "~Total reclaimed space")],
    "system prune --all": [("rm -f -t 0 -a", "~"), ("system prune --force --all", "~Total reclaimed space")],
    "mount --latest": [("mount --latest", "!must execute `rootless unshare` first")],
    "mount --no-trunc": [("mount --no-trunc", "!must execute `rootless unshare` first")],
    "unmount --latest": [("unmount --latest", "#1")],
    "unmount --force": [("unmount --force c", "c")],
    # volumes
    "volume create --driver": [
        ("volume create --driver local v", "v"),
        ("volume create --driver nope w", "!no volume plugin with name nope available"),
    ],
    "volume create --ignore": [("volume create v", "v"), ("volume create --ignore v", "v"), ("volume create v", "!already exists")],
    "volume ls --noheading": [("volume create v", "v"), ("volume ls --noheading", "~local       v")],
    "volume inspect --all": [("volume create v", "v"), ("volume inspect --all --format {{.Name}}", "~v")],
    "volume prune --filter": [
        ("volume create --label x=1 v", "v"),
        ("volume prune --force --filter label=x=2", ""),
        ("volume prune --force --filter label=x=1", "v"),
    ],
    "volume rm --all": [("volume create v", "v"), ("volume rm --all", "~v"), ("volume ls -q", "")],
    "volume rm --time": [("volume create v", "v"), ("volume rm --time 1 v", "!--force option must be specified"), ("volume rm -f --time 1 v", "v")],
    # images
    "import --arch": [
        ("import -q --arch arm64 --os linux --variant v8 --message why FOLDER/root.tar localhost/every:1", "~sha256:"),
        ("image inspect --format {{.Os}}/{{.Architecture}}:{{.Comment}} localhost/every:1", "linux/arm64:why"),
    ],
    # update
    **{
        f"update --{name}": [(f"update --{name} {value} a", CGROUP)]
        for name, value in {
            "blkio-weight": "20", "cpu-period": "1000", "cpu-quota": "2000", "cpu-shares": "5", "cpus": "1", "cpuset-cpus": "0", "cpuset-mems": "0",
            "memory-reservation": "10m", "pids-limit": "100",
        }.items()
    },
    "update --memory-swap": [("update --memory 100m --memory-swap 200m a", CGROUP), ("update --memory-swap 1m a", "!")],
    **{
        f"update --{name}": [(f"update --{name} {value} a", f"!--{name}: ")]
        for name, value in {"cpu-rt-period": "1", "cpu-rt-runtime": "1", "memory-swappiness": "3"}.items()
    },
    **{
        f"update --{name}": [(f"update --{name} /dev/null:x a", "!")]
        for name in (
            "blkio-weight-device", "device-read-bps", "device-read-iops", "device-write-bps", "device-write-iops",
        )
    },
    "update --health-interval": [
        ("update --health-cmd true --health-interval 3s --health-timeout 4s --health-start-period 5s --health-on-failure kill "
         "--health-log-destination events_logger --health-max-log-count 6 --health-max-log-size 7 a", "#1"),
        ("inspect a --format {{.Config.Healthcheck.Interval}},{{.Config.Healthcheck.Timeout}},{{.Config.Healthcheck.StartPeriod}},"
         "{{.Config.HealthcheckOnFailureAction}},{{.Config.HealthLogDestination}},{{.Config.HealthcheckMaxLogCount}},"
         "{{.Config.HealthcheckMaxLogSize}}", "3s,4s,5s,kill,events_logger,6,7"),
    ],
    "update --health-startup-cmd": [
        ("update --health-startup-cmd true a", "!no regular healthcheck"),
        ("update --health-cmd true --health-startup-cmd x --health-startup-interval 2s --health-startup-retries 3 "
         "--health-startup-success 4 --health-startup-timeout 5s a", "#1"),
        ("inspect a --format {{with.Config.StartupHealthCheck}}{{.Test}},{{.Interval}},{{.Retries}},{{.Successes}},{{.Timeout}}{{end}}",
         "[CMD-SHELL x],2s,3,4,5s"),
    ],
}  # fmt: skip


@pytest.fixture
def three(rootless: Engine, tmp_path: Path) -> Engine:
    for name, words in (("a", ("run", "-d")), ("b", ("run", "-d")), ("c", ("create",))):
        line = "echo from c; exec sleep 1000" if name == "c" else "exec sleep 1000"
        program = ("sh", "-c", line)
        cid = ("--cidfile", f"{tmp_path}/{name}.cid")
        rootless.ok(*words, "--name", name, "--label", f"is={name}", *cid, "--network", "none", "host", *program)  # fmt: skip
    (tmp_path / "env").write_text("FROM=the file\n")
    (tmp_path / "hosts").write_text("10.1.2.3 there\n")
    return rootless


@pytest.mark.parametrize("case", TABLE)
def test_option(request: pytest.FixtureRequest, case: str, tmp_path: Path) -> None:
    needs_them = any(re.search(r" [abc]$|--(all|running|latest|filter|cidfile|external|pod|sync)| [abc] ", words) for words, _ in TABLE[case])  # fmt: skip
    name = "three" if needs_them and not case.startswith(("run", "volume")) else "rootless"
    engine: Engine = request.getfixturevalue(name)
    (tmp_path / "hosts").write_text("10.1.2.3 there\n")
    (tmp_path / "root.tar").write_bytes(images.layer([images.file("a", "b")]))
    for words, expected in TABLE[case]:
        result = engine(*words.replace("FOLDER", str(tmp_path)).split())
        kind, text = expected[:1], expected[1:]
        if kind == "!":
            assert result.code != 0 and text in result.err, result
            assert text == "" or "internal error" not in result.err
        elif kind == "?" and result.code:
            assert text in result.err and "; " in result.err, result
        else:
            assert result.code == 0, result
            if kind == "~":
                assert text in result.out, result
            elif kind == "#":
                assert len(result.lines) == int(text), result
            elif kind != "?":
                assert result.out.strip() == expected, result


@pytest.mark.parametrize(
    "words", [("attach", "--sig-proxy=false"), ("start", "--attach", "--sig-proxy=false")]
)
def test_signals_that_are_not_passed_on(rootless: Engine, words: tuple[str, ...]) -> None:
    loop = "trap 'echo got; exit 3' TERM; while :; do echo tick; sleep 0.05; done"
    rootless.ok("create", "--name", "s", "--network", "none", "host", "sh", "-c", loop)
    if words[0] == "attach":
        rootless.ok("start", "s")
    for options, code, left in ((words, -15, 1), (words[:-1], 3, 0)):
        with rootless.popen(*options, "s", stdout=subprocess.PIPE) as client:
            assert client.stdout is not None and client.stdout.readline() == b"tick\n"
            client.send_signal(signal.SIGTERM)
            assert client.stdout.read().endswith(b"got\n") is (not left)
            assert client.wait(30) == code
        assert len(rootless.ok("ps", "-q").split()) == left


def test_attach_without_input(rootless: Engine) -> None:
    """attach --no-stdin: what is typed there goes nowhere; attach --latest is the other one, and its input is read."""
    script = "(while :; do echo tick; sleep 0.05; done) & read x; kill $!; echo got-$x"
    rootless.ok("run", "-d", "-i", "--name", "s", "--network", "none", "host", "sh", "-c", script)
    deaf = rootless.popen(
        "attach", "--no-stdin", "s", stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with deaf:
        assert deaf.stdin is not None and deaf.stdout is not None
        assert deaf.stdout.readline() == b"tick\n"
        deaf.stdin.write(b"here\n")
        deaf.stdin.flush()
        assert rootless.ok("attach", "--latest", input="there\n").endswith("got-there")
        assert deaf.stdout.read().endswith(b"got-there\n")


def test_detach_keys_of_start(rootless: Engine) -> None:
    rootless.ok("create", "-it", "--name", "s", "--network", "none", "host", "sh")
    with Terminal(rootless.popen, "start", "-ai", "--detach-keys", "ctrl-x", "s") as terminal:
        terminal.until_raw()
        terminal.type("echo is-$((40+2))\n")
        terminal.until("is-42")
        terminal.type("\x18")
        assert terminal.wait() == 0
    assert rootless.ok("ps", "--format", "{{.Names}}") == "s"


def test_ps_watch_goes_on(rootless: Engine) -> None:
    with rootless.popen("ps", "--watch", "1", stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        for _ in range(2):
            while b"CONTAINER ID" not in process.stdout.readline():
                pass
        process.terminate()


def _calls() -> str:
    """Every call of the command in the tests, its words one after another."""
    folder = Path(__file__).parents[1]
    text = " ".join(path.read_text() for part in ("integration", "security", "unit/container") for path in sorted((folder / part).glob("test_*.py")))  # fmt: skip
    return re.sub(r"[\s\"',]+", " ", text)


def test_every_option_is_called() -> None:
    calls, missing = _calls(), []
    for command in COUNTED:
        # run and create read one table.
        names = ("run", "create") if command in ("run", "create") else (command,)
        for option, short, _ in OPTIONS[command]:
            if any(f"{name} --{option}" in TABLE for name in names):
                continue
            if any(
                f" --{option} " in words
                for steps in TABLE.values()
                for words, _ in steps
                if words.startswith(f"{command} ")
            ):
                continue
            flag = rf"--{option}(?![a-z-])" + (
                rf"|(?<= )-[a-zA-Z]*{short}[a-zA-Z]*(?= )" if short else ""
            )
            if command in ("run", "create"):
                pattern = flag
            else:
                pattern = rf"(?<![\w-]){re.escape(command)} [^()]{{0,200}}?(?:{flag})"
            if not re.search(pattern, calls):
                missing.append(f"{command} --{option}")
    assert missing == []


@pytest.mark.parametrize("command", sorted(one for one in OPTIONS if not is_absent(one)))
def test_names_and_letters(command: str) -> None:
    if command in GROUPS:
        assert OPTIONS[command] == []
        return
    known = {
        name: option
        for option in load(ALIASES.get(command, command)).options
        for name in (option.name, *option.aliases)
    }
    for name, short, _ in OPTIONS[command]:
        assert name in known, name
        assert not short or known[name].short == short, name

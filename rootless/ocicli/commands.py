"""The table of commands."""

from __future__ import annotations

from rootless.ocicli.commandline import NUMBER, SWITCH, TEXT, TEXTS, Command

GLOBAL: dict[str, int] = {
    "root": TEXT,
    "log": TEXT,
    "log-format": TEXT,
    "log-level": TEXT,
    "debug": SWITCH,
    "rootless": TEXT,
    "systemd-cgroup": SWITCH,
    "cgroup-manager": TEXT,
    "criu": TEXT,
    "version": SWITCH,
    "help": SWITCH,
}
GLOBAL_SHORT = {"v": "version", "h": "help"}

_BUNDLE: dict[str, int] = {
    "bundle": TEXT,
    "config": TEXT,
    "console-socket": TEXT,
    "pid-file": TEXT,
    "no-pivot": SWITCH,
    "no-new-keyring": SWITCH,
    "preserve-fds": NUMBER,
    "no-subreaper": SWITCH,
    "pidfd-socket": TEXT,
}
_BUNDLE_SHORT = {"b": "bundle", "f": "config"}

_LIMITS: dict[str, int] = dict.fromkeys(
    (
        *("blkio-weight", "cpu-period", "cpu-quota", "cpu-burst", "cpu-share", "cpu-idle"),
        *("cpu-rt-period", "cpu-rt-runtime", "cpuset-cpus", "cpuset-mems"),
        *("kernel-memory", "kernel-memory-tcp", "memory", "memory-reservation", "memory-swap"),
        *("pids-limit", "l3-cache-schema", "mem-bw-schema"),
    ),
    TEXT,
)

_CRIU: dict[str, int] = {
    "image-path": TEXT,
    "work-path": TEXT,
    "tcp-established": SWITCH,
    "tcp-close": SWITCH,
    "ext-unix-sk": SWITCH,
    "shell-job": SWITCH,
    "file-locks": SWITCH,
    "manage-cgroups-mode": TEXT,
    "lsm-profile": TEXT,
    "lsm-mount-context": TEXT,
    "link-remap": SWITCH,
}

COMMANDS: dict[str, Command] = {
    "create": Command(
        "create a container, whose program waits for `start`",
        "create",
        "ID",
        _BUNDLE,
        _BUNDLE_SHORT,
    ),
    "start": Command("start the program of a created container", "start", "ID", {}),
    "run": Command(
        "create and start a container",
        "foreground",
        "ID",
        {**_BUNDLE, "detach": SWITCH, "keep": SWITCH},
        {**_BUNDLE_SHORT, "d": "detach"},
    ),
    "state": Command("show the state of a container", "state", "ID", {}),
    "kill": Command(
        "send a signal to a container (SIGTERM)",
        "kill",
        "ID [SIGNAL]",
        {"all": SWITCH, "regex": SWITCH, "signal": TEXT},
        {"a": "all", "r": "regex", "s": "signal"},
    ),
    "delete": Command(
        "remove what a stopped container has left",
        "delete",
        "ID",
        {"force": SWITCH, "regex": SWITCH},
        {"f": "force", "r": "regex"},
    ),
    "exec": Command(
        "run another program in a running container",
        "execute",
        "ID [COMMAND...]",
        {
            "process": TEXT, "detach": SWITCH, "pid-file": TEXT, "console-socket": TEXT, "tty": SWITCH, "user": TEXT,
            "cwd": TEXT, "env": TEXTS, "cap": TEXTS, "no-new-privs": SWITCH, "preserve-fds": NUMBER, "cgroup": TEXTS,
            "additional-gids": TEXTS, "apparmor": TEXT, "process-label": TEXT, "ignore-paused": SWITCH,
            "no-subreaper": SWITCH, "pidfd-socket": TEXT,
        },
        {"p": "process", "d": "detach", "t": "tty", "u": "user", "e": "env", "c": "cap", "g": "additional-gids"},
        stops=True,
    ),
    "list": Command(
        "list containers", "list", "", {"format": TEXT, "quiet": SWITCH}, {"f": "format", "q": "quiet"}
    ),
    "ps": Command(
        "list a container's processes",
        "ps",
        "ID [OPTIONS...]",
        {"format": TEXT},
        {"f": "format"},
        stops=True,
    ),
    "pause": Command("hold every process of a container", "pause", "ID", {}),
    "resume": Command("let a paused container go on", "pause", "ID", {}, function="resume"),
    "update": Command(
        "change a container's limits", "update", "ID", {"resources": TEXT, **_LIMITS}, {"r": "resources"}
    ),
    "events": Command(
        "show what a container uses, and when it runs out of memory",
        "events",
        "ID",
        {"stats": SWITCH, "interval": TEXT},
    ),
    "spec": Command(
        "write a config.json to begin with",
        "spec",
        "",
        {"bundle": TEXT, "rootless": SWITCH},
        {"b": "bundle"},
    ),
    "features": Command("show what this runtime can do", "features", "", {}),
    "checkpoint": Command(
        "save a running container to files (criu)",
        "checkpoint",
        "ID",
        {
            **_CRIU,
            "parent-path": TEXT,
            "leave-running": SWITCH,
            "page-server": TEXT,
            "pre-dump": SWITCH,
            "auto-dedup": SWITCH,
            "lazy-pages": SWITCH,
            "status-fd": NUMBER,
            "empty-ns": TEXT,
        },
    ),
    "restore": Command(
        "bring back a container from such files (criu)",
        "checkpoint",
        "ID",
        {**_CRIU, **_BUNDLE, "detach": SWITCH, "auto-dedup": SWITCH, "lazy-pages": SWITCH},
        {**_BUNDLE_SHORT, "d": "detach"},
        function="restore",
    ),
}  # fmt: skip

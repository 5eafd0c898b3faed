"""What a command declares about itself, and the list of all commands.

A command is one row of `COMMANDS` (its words, where it lives, one line about it) and, in its own module, a `Command` with
an option table and a `main`. Two readers share these tables: `parse`, for every ordinary call, and `help`, which builds a
Typer application from them for help, completion and mistakes. Nothing here imports a command.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    Check = Callable[["Invocation"], None]

#: What an option holds when it is not given, by kind. Lists are copied for each call.
ZERO: dict[str, Any] = {
    "bool": False,
    "str": "",
    "list": [],  # one value each time it is given (pflag: stringArray)
    "csv": [],  # split at commas, quotes as in CSV (pflag: stringSlice)
    "int": 0,
    "int32": 0,
    "uint": 0,
    "uints": [],
    "ints": [],
    "float": 0.0,
    "duration": 0,  # nanoseconds, as in Go
    "ips": [],
    "map": {},  # key=value pairs at commas (pflag: stringToString)
}


class Option:
    """One option: long name, kind of value, help; and what else is not the usual."""

    __slots__ = (
        "aliases",
        "choices",
        "complete",
        "default",
        "help",
        "hidden",
        "implied",
        "kind",
        "metavar",
        "name",
        "refused",
        "short",
    )

    def __init__(
        self,
        name: str,
        kind: str = "bool",
        help: str = "",
        *,
        short: str = "",
        metavar: str = "",
        default: Any = None,
        implied: str | None = None,
        hidden: bool = False,
        aliases: tuple[str, ...] = (),
        choices: tuple[str, ...] = (),
        complete: str = "",
        refused: str = "",
    ) -> None:
        self.name = name
        self.kind = kind
        self.help = help
        self.short = short
        self.metavar = metavar
        self.default = ZERO[kind] if default is None else default
        #: The value that the option alone means, without `=value`; "true" for a bool (pflag: NoOptDefVal).
        self.implied = "true" if kind == "bool" and implied is None else implied
        self.hidden = hidden
        self.aliases = aliases
        #: The only values there are; anything else is a mistake.
        self.choices = choices
        #: What completes its value: a name in `rootless.cli.complete`.
        self.complete = complete
        #: Why this engine cannot do it. Giving the option is then an error that says so.
        self.refused = refused

    @property
    def many(self) -> bool:
        return self.kind in ("list", "csv", "uints", "ints", "ips", "map")


class Command:
    """One command: usage, options, how many arguments, and the function that does it."""

    __slots__ = (
        "args",
        "complete",
        "description",
        "examples",
        "interspersed",
        "main",
        "options",
        "usage",
    )

    def __init__(
        self,
        usage: str,
        main: Callable[[Invocation], int],
        options: Sequence[Option] = (),
        *,
        args: tuple[int, int | None] | Check = (0, 0),
        interspersed: bool = True,
        description: str = "",
        examples: tuple[str, ...] = (),
        complete: str = "",
    ) -> None:
        #: The words after the command's name, as in "[options] IMAGE [COMMAND [ARG...]]".
        self.usage = usage
        self.main = main
        self.options = options
        #: (least, most or None) positional arguments, or a function that raises Usage.
        self.args = args
        #: Whether options may follow arguments.
        self.interspersed = interspersed
        self.description = description
        #: Lines without the program's name: "run -it host bash".
        self.examples = examples
        #: What completes its arguments: a name in `rootless.cli.complete`.
        self.complete = complete


class Invocation:
    """A command line that has been read: the command, its options, its arguments, the global options."""

    __slots__ = ("_given", "args", "command", "globals", "options", "path")

    def __init__(
        self,
        path: str,
        command: Command,
        options: dict[str, Any],
        args: list[str],
        *,
        globals: dict[str, Any],
        given: set[str],
    ) -> None:
        self.path = path
        self.command = command
        self.options = options
        self.args = args
        self.globals = globals
        self._given = given

    def given(self, name: str) -> bool:
        """Whether the option was on the command line, as against defaulted."""
        return name in self._given

    def flag(self, name: str) -> bool:
        value: bool = self.options[name]
        return value

    def text(self, name: str) -> str:
        value: str = self.options[name]
        return value

    def number(self, name: str) -> int:
        value: int = self.options[name]
        return value

    def real(self, name: str) -> float:
        value: float = self.options[name]
        return value

    def words(self, name: str) -> list[str]:
        value: list[str] = self.options[name]
        return value


_NO_REMOTE = "rootless has no service to connect to; every command works on this machine (ssh HOST rootless ...)"

#: The options that stand before the command, and may stand after it.
GLOBALS = (
    Option("cgroup-manager", "str", "Who makes cgroups", choices=("systemd", "cgroupfs")),
    Option("config", "str", "Folder of the registry logins (config.json)", hidden=True),
    Option(
        "conmon",
        "str",
        "",
        hidden=True,
        refused="rootless has its own monitor and does not start conmon",
    ),
    Option("connection", "str", "", short="c", hidden=True, refused=_NO_REMOTE),
    Option("events-backend", "str", "Where events are kept", choices=("file", "journald", "none")),
    Option("help", "bool", "Show this message"),
    Option("hooks-dir", "list", "Folder of OCI hooks (can be given several times)"),
    Option("identity", "str", "", hidden=True, refused=_NO_REMOTE),
    Option("imagestore", "str", "Folder of the images, apart from the containers"),
    Option(
        "log-level",
        "str",
        "Messages to show: trace, debug, info, warn, error, fatal, panic",
        default="warn",
    ),
    Option("module", "list", "Load a containers.conf module"),
    Option("network-cmd-path", "str", "Path of the network helper (pasta or slirp4netns)"),
    Option("network-config-dir", "str", "Folder of the network definitions"),
    Option("out", "str", "Write standard output to this file"),
    Option("remote", "bool", "", short="r", hidden=True, refused=_NO_REMOTE),
    Option("root", "str", "Folder of what lasts: images, containers, volumes"),
    Option("runroot", "str", "Folder of what is gone after a reboot"),
    Option("runtime", "str", "Another OCI runtime for new containers: its name or path"),
    Option("runtime-flag", "list", "Global flag of that runtime, without its dashes"),
    Option("ssh", "str", "", hidden=True, refused=_NO_REMOTE),
    Option("storage-driver", "str", "How container roots are made", choices=("overlay", "vfs")),
    Option("storage-opt", "list", "Option of the storage driver"),
    Option("syslog", "bool", "Send messages to the system's log as well"),
    Option(
        "tmpdir",
        "str",
        "",
        hidden=True,
        refused="what is gone after a reboot lies in one folder; give it with --runroot",
    ),
    Option(
        "transient-store",
        "bool",
        "",
        hidden=True,
        refused="containers are not kept in memory; use run --rm, or --root on a tmpfs",
    ),
    Option("url", "str", "", hidden=True, refused=_NO_REMOTE),
    Option("version", "bool", "Show the version", short="v"),
    Option("volumepath", "str", "Folder of the volumes"),
)

#: Global options that a command of its own name may take over, and which are known before the command only.
BEFORE_ONLY = frozenset(("connection", "identity", "ssh", "url", "version", "remote"))

#: Words that lead to further words, and one line about each.
GROUPS: dict[str, str] = {
    "container": "Manage containers",
    "generate": "Make systemd units",
    "healthcheck": "Manage health checks of containers",
    "image": "Manage images",
    "image trust": "Manage the image trust policy",
    "kube": "Play and generate Kubernetes YAML",
    "manifest": "Manipulate manifest lists and image indexes",
    "network": "Manage networks",
    "pod": "Manage pods",
    "secret": "Manage secrets",
    "system": "Manage the engine",
    "volume": "Manage volumes",
}

#: Every command by its words: where its Command is ("module" or "module:NAME"), and one line about it.
#: The module is `rootless.cli.` plus that name; its Command is COMMAND unless another name is given.
COMMANDS: dict[str, tuple[str, str]] = {
    "commit": ("commit", "Make an image of a container's changes"),
    "container commit": ("commit", "Make an image of a container's changes"),
    "history": ("history", "Show the steps that made an image"),
    "image diff": ("image:DIFF", "Show what an image changed"),
    "image exists": ("image:EXISTS", "Tell by the exit code whether an image is here"),
    "image history": ("history", "Show the steps that made an image"),
    "image import": ("importing", "Make an image of a root file system's archive"),
    "image inspect": ("image:INSPECT", "Show everything that is known of images"),
    "image list": ("images", "List images"),
    "image load": ("load", "Load images from an archive"),
    "image mount": ("imagemount:MOUNT", "Mount images' files, inside unshare"),
    "image prune": ("image:PRUNE", "Remove images that nothing uses"),
    "image rm": ("rmi", "Remove images"),
    "image save": ("save", "Write images into an archive"),
    "image scp": ("scp", "Copy images to and from other hosts through ssh"),
    "image tag": ("tag:TAG", "Give an image further names"),
    "image tree": ("image:TREE", "Show an image's layers"),
    "image untag": ("tag:UNTAG", "Take names away from an image"),
    "image unmount": ("imagemount:UNMOUNT", "Unmount images' files"),
    "images": ("images", "List images"),
    "import": ("importing", "Make an image of a root file system's archive"),
    "load": ("load", "Load images from an archive"),
    "rmi": ("rmi", "Remove images"),
    "save": ("save", "Write images into an archive"),
    "tag": ("tag:TAG", "Give an image further names"),
    "untag": ("tag:UNTAG", "Take names away from an image"),
    "image pull": ("pull", "Pull an image from a registry"),
    "pull": ("pull", "Pull an image from a registry"),
    "image push": ("push", "Push an image to a registry"),
    "push": ("push", "Push an image to a registry"),
    "manifest add": ("manifest:ADD", "Add images to a manifest list"),
    "manifest annotate": ("manifest:ANNOTATE", "Change what a manifest list says of an image"),
    "manifest create": ("manifest:CREATE", "Make a manifest list"),
    "manifest exists": ("manifest:EXISTS", "Tell by the exit code whether a manifest list is here"),
    "manifest inspect": ("manifest:INSPECT", "Show a manifest list"),
    "manifest push": ("manifest:PUSH", "Push a manifest list to a registry"),
    "manifest remove": ("manifest:REMOVE", "Take an entry out of a manifest list"),
    "manifest rm": ("manifest:RM", "Remove manifest lists"),
    "login": ("login", "Log in to a registry"),
    "logout": ("login:LOGOUT", "Log out of a registry"),
    "image sign": ("trust:SIGN", "Sign images in a registry"),
    "image trust set": ("trust:TRUST_SET", "Set which images may be used"),
    "image trust show": ("trust:TRUST_SHOW", "Show which images may be used"),
    "image search": ("search", "Search registries for images"),
    "search": ("search", "Search registries for images"),
    "run": ("run", "Run a command in a new container"),
    "container run": ("run", "Run a command in a new container"),
    "attach": ("attach", "Join the streams of a running container"),
    "container attach": ("attach", "Join the streams of a running container"),
    "create": ("create", "Create a container without starting it"),
    "container create": ("create", "Create a container without starting it"),
    "kill": ("kill", "Send a signal to running containers"),
    "container kill": ("kill", "Send a signal to running containers"),
    "pause": ("pause:PAUSE", "Hold all processes of containers"),
    "container pause": ("pause:PAUSE", "Hold all processes of containers"),
    "restart": ("restart", "Stop containers and start them again"),
    "container restart": ("restart", "Stop containers and start them again"),
    "rm": ("rm", "Remove containers"),
    "container rm": ("rm", "Remove containers"),
    "start": ("start", "Start containers"),
    "container start": ("start", "Start containers"),
    "stats": ("stats", "Show what running containers use"),
    "container stats": ("stats", "Show what running containers use"),
    "stop": ("stop", "Stop containers"),
    "container stop": ("stop", "Stop containers"),
    "unpause": ("pause:UNPAUSE", "Let paused containers go on"),
    "container unpause": ("pause:UNPAUSE", "Let paused containers go on"),
    "update": ("update", "Change the limits of a container"),
    "container update": ("update", "Change the limits of a container"),
    "wait": ("wait", "Wait for containers to end, and print their exit codes"),
    "container wait": ("wait", "Wait for containers to end, and print their exit codes"),
    "exec": ("exec", "Run a further process in a running container"),
    "container exec": ("exec", "Run a further process in a running container"),
    "logs": ("logs", "Print what containers have written"),
    "container logs": ("logs", "Print what containers have written"),
    "ps": ("ps", "List containers"),
    "container list": ("ps", "List containers"),
    "container ps": ("ps", "List containers"),
    "bundle": ("bundle", "Make an OCI bundle of an image"),
    "completion": ("completion", "Print a script for completion by the shell"),
    "unshare": ("unshare", "Run a command in the user namespace of containers"),
    "info": ("info", "Show what this machine can do, and how the engine uses it"),
    "system info": ("info", "Show what this machine can do, and how the engine uses it"),
    "system check": ("system:CHECK", "Check the store for damage"),
    "system df": ("system:DF", "Show what is kept on the disk"),
    "system migrate": ("system:MIGRATE", "Adapt containers to changes of the host"),
    "system prune": ("system:PRUNE", "Remove what nothing uses"),
    "system renumber": ("system:RENUMBER", "Give locks new numbers"),
    "system reset": ("system:RESET", "Remove everything"),
    "version": ("version", "Show the version of the engine"),
    "network connect": ("network:CONNECT", "Connect a container to a network"),
    "network create": ("network:CREATE", "Create a network"),
    "network disconnect": ("network:DISCONNECT", "Disconnect a container from a network"),
    "network exists": ("network:EXISTS", "Tell by the exit code whether a network exists"),
    "network inspect": ("network_list:INSPECT", "Show all about networks"),
    "network ls": ("network_list:LS", "List networks"),
    "network prune": ("network:PRUNE", "Remove all unused networks"),
    "network reload": ("network:RELOAD", "Make the networks of running containers anew"),
    "network rm": ("network:RM", "Remove networks"),
    "network update": ("network:UPDATE", "Change the name servers of a network"),
    "port": ("port", "List published ports"),
    "container port": ("port", "List published ports"),
    "volume create": ("volume:CREATE", "Create a volume"),
    "volume exists": ("volume:EXISTS", "Tell by the exit code whether a volume exists"),
    "volume export": ("volume:EXPORT", "Write a volume's content as a tar archive"),
    "volume import": ("volume:IMPORT", "Unpack a tar archive into a volume"),
    "volume inspect": ("volume:INSPECT", "Show all about volumes"),
    "volume ls": ("volume:LS", "List volumes"),
    "volume mount": ("volume:MOUNT", "Print the folder of a volume"),
    "volume prune": ("volume:PRUNE", "Remove all unused volumes"),
    "volume reload": ("volume:RELOAD", "Look for volumes of plugins"),
    "volume rm": ("volume:RM", "Remove volumes"),
    "volume unmount": ("volume:UNMOUNT", "End what volume mount began"),
    "rename": ("container:RENAME", "Give a container another name"),
    "container rename": ("container:RENAME", "Give a container another name"),
    "init": ("container:INIT", "Make containers ready to start"),
    "container init": ("container:INIT", "Make containers ready to start"),
    "container exists": ("container:EXISTS", "Check whether a container exists"),
    "container prune": ("container:PRUNE", "Remove all containers that do not run"),
    "container cleanup": ("container:CLEANUP", "Clear what ended containers have left"),
    "events": ("events", "Show what happens to containers, images, volumes and networks"),
    "system events": ("events", "Show what happens to containers, images, volumes and networks"),
    "diff": ("diff", "Show what a container or image has changed"),
    "container diff": ("diff:CONTAINER", "Show what a container has changed"),
    "export": ("export", "Write a container's file system as a tar archive"),
    "container export": ("export", "Write a container's file system as a tar archive"),
    "mount": ("mount:MOUNT", "Mount containers' roots, inside unshare"),
    "container mount": ("mount:MOUNT", "Mount containers' roots, inside unshare"),
    "unmount": ("mount:UNMOUNT", "Unmount containers' roots"),
    "container unmount": ("mount:UNMOUNT", "Unmount containers' roots"),
    "cp": ("cp", "Copy files between a container and the host"),
    "container cp": ("cp", "Copy files between a container and the host"),
    "top": ("top", "Show the processes of a container"),
    "container top": ("top", "Show the processes of a container"),
    "generate systemd": ("generate", "Make a systemd unit of a container"),
    "auto-update": ("autoupdate", "Update the images of services, and go back where one fails"),
    "doctor": ("doctor", "Say what works on this host, what does not, and the remedy"),
    "quadlet": ("quadlet", "Services from .container, .volume, .network and .image files"),
    "healthcheck run": ("healthcheck", "Check the health of a container now"),
    "inspect": ("inspect", "Show all that is known of objects"),
    "container inspect": ("inspect:CONTAINER", "Show all that is known of containers"),
}

#: Other spellings, not shown in help.
ALIASES: dict[str, str] = {
    "container ls": "container list",
    "generate bundle": "bundle",
    "image ls": "image list",
    "image remove": "image rm",
    "network list": "network ls",
    "network remove": "network rm",
    "pod list": "pod ps",
    "pod ls": "pod ps",
    "secret list": "secret ls",
    "secret remove": "secret rm",
    "umount": "unmount",
    "container umount": "container unmount",
    "image umount": "image unmount",
    "volume list": "volume ls",
    "volume remove": "volume rm",
    "manifest delete": "manifest rm",
}

#: What Podman has and this engine has not, and why.
ABSENT: dict[str, str] = {
    "farm": "there are no remote builders: every command works on this machine",
    "machine": "containers need no virtual machine on Linux",
    "system connection": _NO_REMOTE,
    # What is still to come. Work that brings one takes its line away; a test sees to it.
    "artifact": "OCI artifacts are not available in this version; `rootless manifest add --artifact` pushes files",
    "build": "building images is not available in this version; buildah's images can be loaded and pulled",
    "image build": "building images is not available in this version; buildah's images can be loaded and pulled",
    "compose": "not available in this version; podman-compose works with `alias podman=rootless`",
    "container checkpoint": "checkpoints need criu as root, which a user's container cannot have",
    "container clone": "not available in this version; `rootless commit` and `rootless run` do the same",
    "container restore": "checkpoints need criu as root, which a user's container cannot have",
    "container runlabel": "labels of an image run no command on the host, which is unsafe with foreign images",
    "generate kube": "Kubernetes YAML is not available in this version",
    "generate spec": "not available in this version; `rootless inspect` shows what a container was made of",
    "kube": "Kubernetes YAML is not available in this version",
    "play": "Kubernetes YAML is not available in this version",
    "pod": "pods are not available in this version; `--network container:NAME` shares a network",
    "secret": "secrets are not available in this version; mount a file with -v FILE:/run/secrets/NAME:ro",
    "system service": "the REST service is not available in this version",
}


def load(path: str) -> Command:
    """Import the module of one command, and nothing else."""
    module, _, name = COMMANDS[path][0].partition(":")
    place = "rootless.cli." + module
    __import__(place)
    import sys

    command: Command = getattr(sys.modules[place], name or "COMMAND")
    return command

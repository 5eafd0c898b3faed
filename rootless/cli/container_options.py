"""The options of `run` and `create`, parts of which `update`, `container clone`, `pod create` and `build` share.

What they mean is for `rootless.container.options`; here is only how they are written.
"""

from __future__ import annotations

from rootless.cli.options import DETACH_KEYS, SIZE
from rootless.cli.table import Option

#: Limits of a container's cgroup.
RESOURCES = (
    Option(
        "blkio-weight", "str", "Relative weight of block I/O, from 10 to 1000", metavar="weight"
    ),
    Option(
        "blkio-weight-device",
        "list",
        "Relative weight of block I/O on a device",
        metavar="device:weight",
    ),
    Option("cpu-period", "uint", "Length of the CPU quota's period in microseconds"),
    Option("cpu-quota", "int", "CPU time within each period in microseconds"),
    Option("cpu-rt-period", "uint", "Length of the real-time period in microseconds (cgroup v1)"),
    Option(
        "cpu-rt-runtime", "int", "Real-time CPU time within each period in microseconds (cgroup v1)"
    ),
    Option("cpu-shares", "uint", "Relative weight of CPU time", short="c"),
    Option("cpus", "float", "Number of CPUs, fractions allowed; 0 is no limit"),
    Option("cpuset-cpus", "str", "CPUs to run on, as in 0-3 or 0,1"),
    Option("cpuset-mems", "str", "Memory nodes to use, as in 0-3 or 0,1 (NUMA)"),
    Option(
        "device-read-bps",
        "list",
        "Limit reading from a device, as in /dev/sda:1mb",
        metavar="device:rate",
    ),
    Option(
        "device-read-iops", "list", "Limit reads per second from a device", metavar="device:rate"
    ),
    Option(
        "device-write-bps",
        "list",
        "Limit writing to a device, as in /dev/sda:1mb",
        metavar="device:rate",
    ),
    Option(
        "device-write-iops", "list", "Limit writes per second to a device", metavar="device:rate"
    ),
    Option("memory", "str", "Memory limit", short="m", metavar=SIZE),
    Option(
        "memory-reservation", "str", "Memory limit that holds when memory is short", metavar=SIZE
    ),
    Option(
        "memory-swap", "str", "Limit of memory and swap together; -1 for no limit", metavar=SIZE
    ),
    Option(
        "memory-swappiness",
        "int",
        "Inclination to swap, from 0 to 100; -1 for the host's",
        default=-1,
    ),
    Option("pids-limit", "int", "Most processes at a time; -1 for no limit"),
)

#: Health checks.
HEALTH = (
    Option(
        "health-cmd",
        "str",
        "Command that checks the container's health; none disables it",
        aliases=("healthcheck-command",),
    ),
    Option(
        "health-interval",
        "str",
        "Time between checks; disable for none",
        default="30s",
        aliases=("healthcheck-interval",),
    ),
    Option(
        "health-log-destination",
        "str",
        "Where results are kept: local, events_logger or a folder",
        default="local",
    ),
    Option("health-max-log-count", "uint", "Results to keep; 0 for all", default=5),
    Option("health-max-log-size", "uint", "Characters to keep of a result; 0 for all", default=500),
    Option(
        "health-on-failure",
        "str",
        "What to do once unhealthy: none, kill, restart or stop",
        default="none",
    ),
    Option(
        "health-retries",
        "uint",
        "Failures in a row that mean unhealthy",
        default=3,
        aliases=("healthcheck-retries",),
    ),
    Option(
        "health-start-period",
        "str",
        "Time to start in, when failures do not count",
        default="0s",
        aliases=("healthcheck-start-period",),
    ),
    Option("health-startup-cmd", "str", "Command that checks whether the container has started"),
    Option("health-startup-interval", "str", "Time between startup checks", default="30s"),
    Option("health-startup-retries", "uint", "Failed startup checks before a restart"),
    Option("health-startup-success", "uint", "Successes in a row that mean started; 0 for one"),
    Option("health-startup-timeout", "str", "Longest time of a startup check", default="30s"),
    Option(
        "health-timeout",
        "str",
        "Longest time of a check",
        default="30s",
        aliases=("healthcheck-timeout",),
    ),
    Option("no-healthcheck", "bool", "No health check, not even the image's"),
)

RESTART = Option(
    "restart", "str", "What to do after exit: no, on-failure[:N], always or unless-stopped"
)

#: The id mapping of a user namespace.
USERNS = (
    Option("gidmap", "csv", "Map of group ids: container:host:amount", metavar="map"),
    Option("subgidname", "str", "Name in /etc/subgid whose ranges to use"),
    Option("subuidname", "str", "Name in /etc/subuid whose ranges to use"),
    Option("uidmap", "csv", "Map of user ids: container:host:amount", metavar="map"),
    Option(
        "userns",
        "str",
        "User namespace: keep-id[:OPTIONS], nomap, auto, host, container:ID or ns:PATH",
        metavar="mode",
    ),
)

#: Networks.
NETWORK = (
    Option("add-host", "csv", "Line for /etc/hosts", metavar="name:ip"),
    Option("dns", "csv", "Name server", metavar="ip"),
    Option("dns-option", "csv", "Option of the resolver", aliases=("dns-opt",)),
    Option("dns-search", "csv", "Search domain"),
    Option("hosts-file", "str", "File that /etc/hosts begins with; image or none", metavar="path"),
    Option("ip", "str", "IPv4 address"),
    Option("ip6", "str", "IPv6 address"),
    Option("mac-address", "str", "MAC address, as in 92:d0:c6:0a:29:33"),
    Option(
        "network",
        "list",
        "Network: pasta, slirp4netns, bridge, none, host, container:ID, ns:PATH or a name",
        metavar="mode",
        aliases=("net",),
        complete="networks",
    ),
    Option("network-alias", "csv", "Further name on the network"),
    Option("no-hostname", "bool", "Leave the image's /etc/hostname as it is"),
    Option("no-hosts", "bool", "Leave the image's /etc/hosts as it is"),
    Option(
        "publish",
        "csv",
        "Publish a port or a range of ports on the host",
        short="p",
        metavar="[[ip:]host:]container[/protocol]",
    ),
)

#: Where an image comes from.
PULL = (
    Option(
        "arch",
        "str",
        "Architecture of the image in place of this machine's",
        aliases=("override-arch",),
    ),
    Option(
        "authfile", "str", "File of registry logins; $REGISTRY_AUTH_FILE otherwise", metavar="path"
    ),
    Option("decryption-key", "list", "Key to decrypt the image with", metavar="path"),
    Option(
        "os", "str", "Operating system of the image in place of linux", aliases=("override-os",)
    ),
    Option("platform", "str", "Platform of the image: os/arch[/variant]"),
    Option(
        "pull",
        "str",
        "When to pull: always, missing, never or newer",
        default="missing",
        metavar="policy",
    ),
    Option("retry", "uint", "Further attempts when a pull fails", default=3),
    Option("retry-delay", "str", "Time between the attempts"),
    Option(
        "tls-verify", "bool", "Require HTTPS and a valid certificate of registries", default=True
    ),
    Option(
        "variant", "str", "Variant of the architecture of the image", aliases=("override-variant",)
    ),
)

_OWN = (
    Option("annotation", "list", "Annotation of the container", metavar="key=value"),
    Option("attach", "csv", "Streams to attach: stdin, stdout, stderr", short="a"),
    Option("cap-add", "csv", "Capability to add", complete="capabilities"),
    Option("cap-drop", "csv", "Capability to drop", complete="capabilities"),
    Option("cgroup-conf", "csv", "Value of a cgroup v2 file", metavar="key=value"),
    Option("cgroup-parent", "str", "Cgroup to make the container's cgroup in", metavar="path"),
    Option(
        "cgroupns",
        "str",
        "Cgroup namespace: private, host, container:ID or ns:PATH",
        metavar="mode",
    ),
    Option(
        "cgroups",
        "str",
        "Cgroup of the container: enabled, disabled, no-conmon or split",
        default="enabled",
        metavar="mode",
    ),
    Option(
        "chrootdirs",
        "list",
        "Folder inside the container that gets /etc/hosts, resolv.conf and hostname as well",
        metavar="path",
    ),
    Option("cidfile", "str", "Write the container's id to this file", metavar="path"),
    Option("conmon-pidfile", "str", "Write the monitor's process id to this file", metavar="path"),
    Option("device", "list", "Device of the host to add", metavar="device"),
    Option("device-cgroup-rule", "csv", "Rule for the cgroup's list of devices", metavar="rule"),
    Option("disable-content-trust", "bool", "Nothing; for Docker's sake", default=False),
    Option("entrypoint", "str", "Entry point in place of the image's", metavar="command"),
    Option(
        "env",
        "list",
        "Environment variable; with no value, the host's",
        short="e",
        metavar="name[=value]",
    ),
    Option("env-file", "list", "File of environment variables", metavar="path"),
    Option("env-host", "bool", "All environment variables of the host"),
    Option(
        "env-merge",
        "list",
        "Environment variable made from the image's, as in PATH=${PATH}:/x",
        metavar="name=value",
    ),
    Option("expose", "csv", "Port, or range of ports, that the container listens on"),
    Option("gpus", "csv", "GPUs to add; all for every one"),
    Option("group-add", "csv", "Further group of the process; keep-groups for the caller's own"),
    Option("group-entry", "str", "Line for /etc/group"),
    Option("hostname", "str", "Host name in the container", short="h"),
    Option("hostuser", "csv", "User of the host to add to /etc/passwd"),
    Option("http-proxy", "bool", "Pass on the host's proxy variables", default=True),
    Option(
        "image-volume",
        "str",
        "What the image's volumes become: anonymous, bind, tmpfs or ignore",
        default="anonymous",
        metavar="mode",
    ),
    Option("init", "bool", "Run an init that forwards signals and reaps processes"),
    Option("init-path", "str", "Path of that init on the host", metavar="path"),
    Option("interactive", "bool", "Keep standard input open", short="i"),
    Option(
        "ipc",
        "str",
        "IPC namespace: private, shareable, none, host, container:ID or ns:PATH",
        metavar="mode",
    ),
    Option("label", "list", "Label of the container", short="l", metavar="key=value"),
    Option("label-file", "list", "File of labels, one a line", metavar="path"),
    Option(
        "log-driver",
        "str",
        "How output is logged: k8s-file, json-file, journald, passthrough or none",
        metavar="driver",
    ),
    Option(
        "log-opt",
        "list",
        "Option of the log: path=, max-size=, max-file=, tag=",
        metavar="name=value",
    ),
    Option(
        "mount",
        "list",
        "Mount, as in type=bind,source=/a,target=/b; or volume, tmpfs, image, devpts, glob",
    ),
    Option("name", "str", "Name of the container"),
    Option(
        "oom-kill-disable",
        "bool",
        "Keep the kernel from killing it when memory runs out (cgroup v1)",
    ),
    Option(
        "oom-score-adj",
        "int",
        "How soon the kernel kills it when memory runs out, from -1000 to 1000",
    ),
    Option("passwd-entry", "str", "Line for /etc/passwd"),
    Option("personality", "str", "Execution domain, as in LINUX32"),
    Option("pid", "str", "PID namespace: private, host, container:ID or ns:PATH", metavar="mode"),
    Option("pidfile", "str", "Write the container's process id to this file", metavar="path"),
    Option("pod", "str", "Pod to run in; new:NAME makes one", complete="pods"),
    Option("pod-id-file", "str", "File with the id of the pod to run in", metavar="path"),
    Option("privileged", "bool", "All capabilities and devices that the user has, and no masks"),
    Option(
        "publish-all", "bool", "Publish every exposed port on a free port of the host", short="P"
    ),
    Option("quiet", "bool", "Say nothing while pulling", short="q"),
    Option("rdt-class", "str", "Class of cache and memory bandwidth (Intel RDT)"),
    Option("read-only", "bool", "Make the root file system read-only"),
    Option(
        "read-only-tmpfs",
        "bool",
        "With --read-only: writable tmpfs on /dev/shm, /run, /tmp and /var/tmp",
        default=True,
    ),
    Option("replace", "bool", "Remove a container of the same name first"),
    Option("requires", "csv", "Container that must run before", complete="containers"),
    RESTART,
    Option("rm", "bool", "Remove the container, and its anonymous volumes, after exit"),
    Option("rootfs", "bool", "The first argument is a folder and not an image"),
    Option(
        "sdnotify",
        "str",
        "Who tells systemd that it is ready: container, conmon, healthy or ignore",
        default="container",
        metavar="mode",
    ),
    Option(
        "seccomp-policy",
        "str",
        "Where the seccomp profile comes from: default or image",
        default="default",
        metavar="policy",
    ),
    Option(
        "secret", "list", "Secret: NAME[,type=mount|env,target=,uid=,gid=,mode=]", metavar="secret"
    ),
    Option(
        "security-opt",
        "list",
        "seccomp=, apparmor=, label=, no-new-privileges, mask=, unmask=, proc-opts=",
    ),
    Option("shm-size", "str", "Size of /dev/shm", default="65536k", metavar=SIZE),
    Option(
        "shm-size-systemd",
        "str",
        "Size of the tmpfs on /run and /run/lock under --systemd",
        metavar=SIZE,
    ),
    Option("stop-signal", "str", "Signal that stops the container", complete="signals"),
    Option("stop-timeout", "uint", "Seconds to wait after that signal before SIGKILL", default=10),
    Option("sysctl", "csv", "Kernel parameter of a namespace", metavar="name=value"),
    Option(
        "systemd", "str", "Prepare the container for systemd: true, false or always", default="true"
    ),
    Option("timeout", "uint", "Seconds after which the container is killed"),
    Option("tmpfs", "list", "Mount a tmpfs", metavar="path[:options]"),
    Option("tty", "bool", "Give the process a terminal", short="t"),
    Option("tz", "str", "Time zone; local for the host's"),
    Option("ulimit", "csv", "Resource limit; host for the caller's", metavar="name=soft[:hard]"),
    Option("umask", "str", "File mode creation mask", default="0022"),
    Option("unsetenv", "list", "Environment variable to leave out", metavar="name"),
    Option("unsetenv-all", "bool", "Leave out the image's and the default environment"),
    Option("user", "str", "User of the process", short="u", metavar="user[:group]"),
    Option("uts", "str", "UTS namespace: private, host, container:ID or ns:PATH", metavar="mode"),
    Option(
        "volume", "list", "Mount a folder or a volume", short="v", metavar="[source:]path[:options]"
    ),
    Option(
        "volumes-from",
        "list",
        "Mount the volumes of another container",
        metavar="container[:options]",
        complete="containers",
    ),
    Option("workdir", "str", "Working directory", short="w", metavar="path"),
)

_SHARED = (*RESOURCES, *HEALTH, *USERNS, *NETWORK, *PULL, *_OWN)

CREATE = (
    *_SHARED,
    Option("init-ctr", "str", "Run before the pod's other containers: always or once"),
)

RUN = (
    *_SHARED,
    Option("detach", "bool", "Run in the background and print the container's id", short="d"),
    DETACH_KEYS,
    Option("passwd", "bool", "Add the user to /etc/passwd and /etc/group", default=True),
    Option("preserve-fd", "uints", "Descriptors to pass into the container", metavar="number,..."),
    Option("preserve-fds", "uint", "Number of descriptors from 3 on to pass into the container"),
    Option("rmi", "bool", "Remove the image after exit, unless something uses it"),
    Option("sig-proxy", "bool", "Pass on signals to the process", default=True),
)

"""Limits of a container's cgroup and of its processes, as `create`, `run` and `update` take them."""

from __future__ import annotations

from rootless.container.quantities import parse_size, parse_uint
from rootless.errors import Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.container.options import CreateOptions
    from rootless.container.read_options import Reader


def read(reader: Reader, o: CreateOptions) -> None:
    """What `--memory`, `--cpus` and their like say."""
    if o.cgroups not in ("enabled", "disabled", "no-conmon", "split"):
        raise Usage(
            f'running container create option: invalid cgroup mode "{o.cgroups}": invalid argument'
        )
    o.cgroup_conf = reader.pairs("cgroup_conf", "--cgroup-conf must be formatted KEY=VALUE")
    for key in o.cgroup_conf:
        if "/" in key or key in ("", ".", ".."):
            raise Usage(f'invalid cgroup file name "{key}"')
    for name in ("memory", "memory_reservation"):
        setattr(o, name, _memory(reader, name))
    swap = reader.text("memory_swap")
    if swap:
        o.memory_swap = -1 if swap == "-1" else _memory(reader, "memory_swap")
    if o.memory_swap is not None and o.memory_swap >= 0 and o.memory_swap < o.memory:
        raise Usage("memory-swap counts memory and swap together and must not be below --memory")
    if o.memory_swap is not None and not o.memory:
        raise Usage("--memory-swap needs --memory")
    if o.cpus:
        for name in ("cpu_period", "cpu_quota"):
            if getattr(o, name):
                raise Usage(f"--{name.replace('_', '-')} and --cpus cannot be set together")
    for name in ("cpuset_cpus", "cpuset_mems"):
        _check_cpuset(name, getattr(o, name))
    _read_block_io(reader, o)


def _read_block_io(reader: Reader, o: CreateOptions) -> None:
    weight = reader.text("blkio_weight")
    if weight:
        try:
            o.blkio_weight = parse_uint(weight)
        except Usage as error:
            raise Usage(f"invalid value for blkio-weight: {error}") from None
        if not 10 <= o.blkio_weight <= 1000:
            raise Usage(f"invalid value for blkio-weight: {weight} is not between 10 and 1000")
    for word in reader.words("blkio_weight_device"):
        from rootless.container.read_devices import split_device

        path, rest = split_device(word)
        if not rest.isdigit() or not 10 <= int(rest) <= 1000:
            raise Usage(f"invalid weight for device: {word}")
        o.blkio_weight_device[path] = int(rest)
    for name in (
        "device_read_bps",
        "device_write_bps",
        "device_read_iops",
        "device_write_iops",
    ):
        rates = getattr(o, name)
        for word in reader.words(name):
            from rootless.container.read_devices import device_rate

            path, rate = device_rate(word, is_size=name.endswith("bps"))
            rates[path] = rate


def _memory(reader: Reader, name: str) -> int:
    text = reader.text(name)
    try:
        return parse_size(text) if text else 0
    except Usage as error:
        raise Usage(f"invalid value for memory: {error}") from None


ULIMITS = (
    "as", "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss", "rtprio",
    "rttime", "sigpending", "stack",
)  # fmt: skip


def parse_ulimit(text: str) -> tuple[str, int, int]:
    """Read `--ulimit NAME=SOFT[:HARD]`; -1 is no limit."""

    def wrong(why: str) -> Usage:
        return Usage(f'ulimit option "{text}" requires name=SOFT:HARD, failed to be parsed: {why}')

    name, equals, rest = text.partition("=")
    if not equals:
        raise wrong(f"invalid ulimit argument: {text}")
    name = name.lower().removeprefix("rlimit_")
    if name not in ULIMITS:
        raise wrong(f"invalid ulimit type: {text.partition('=')[0]}")
    parts = rest.split(":")
    if len(parts) > 2:
        raise wrong(
            f"too many limit value arguments - {rest}, can only have up to two, `soft[:hard]`"
        )
    values = []
    for part in parts:
        if part != "-1" and not (part.isascii() and part.isdigit()):
            raise wrong(f'strconv.ParseInt: parsing "{part}": invalid syntax')
        values.append(int(part))
    soft, hard = values[0], values[-1]
    if hard != -1 and (soft > hard or soft == -1):
        raise wrong(f"ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}")
    return name, soft, hard


def _check_cpuset(name: str, text: str) -> None:
    for part in text.split(",") if text else ():
        first, dash, last = part.partition("-")
        if not first.isdigit() or (dash and (not last.isdigit() or int(last) < int(first))):
            raise Usage(f'invalid value "{text}" for --{name.replace("_", "-")}')

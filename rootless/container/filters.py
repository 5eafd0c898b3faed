"""--filter for containers: Podman's keys, values and messages.

Values of one key are alternatives, but every label must fit; keys must all fit.
"""

from __future__ import annotations

from rootless.errors import NotFound, RootlessError, Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from rootless.container.engine import Engine
    from rootless.container.status import Status

    Predicate = Callable[[Status], bool]

_STATES = (
    "created",
    "exited",
    "initialized",
    "paused",
    "running",
    "stopped",
    "stopping",
    "removing",
    "unknown",
)
_POLICIES = ("", "always", "no", "none", "never", "on-failure", "unless-stopped")
PRUNE_KEYS = ("label", "label!", "until")


def split(words: Iterable[str]) -> dict[str, list[str]]:
    """key=value words by key."""
    found: dict[str, list[str]] = {}
    for word in words:
        key, sign, value = word.partition("=")
        if not sign:
            raise Usage(f'invalid filter "{word}"')
        found.setdefault(key, []).append(value)
    return found


def matcher(engine: Engine, words: Iterable[str], keys: tuple[str, ...] | None = None) -> Predicate:
    """A test for the containers that all the filters fit. `keys` are the ones that may be used; all by default."""
    tests: list[Predicate] = []
    for key, values in split(words).items():
        make = _FILTERS.get(key)
        if make is None or (keys is not None and key not in keys):
            raise Usage(f"{key} is an invalid filter")
        tests.append(make(engine, values))
    if len(tests) == 1:
        return tests[0]
    return lambda one: all(test(one) for test in tests)


def match_labels(labels: dict[str, str], wanted: Iterable[str]) -> bool:
    """Whether there is a label for each `key` or `key=value`."""
    for word in wanted:
        key, sign, value = word.partition("=")
        if key not in labels or (sign and labels[key] != value):
            return False
    return True


def match_no_labels(labels: dict[str, str], wanted: Iterable[str]) -> bool:
    """Whether none of the labels wanted is there: `label!=`."""
    return all(not match_labels(labels, [word]) for word in wanted)


def _regex(values: list[str]) -> Callable[[str], bool]:
    # Plain names, the usual case, need no `re`.
    if all(
        value.isascii() and value.replace("_", "").replace("-", "").isalnum() for value in values
    ):
        return lambda text: any(value in text for value in values)
    import re

    forms = []
    for value in values:
        try:
            forms.append(re.compile(value))
        except re.error:
            continue  # as Podman: an expression that is none fits nothing
    return lambda text: any(form.search(text) for form in forms)


def _id(engine: Engine, values: list[str]) -> Predicate:
    if all(value and set(value) <= set("0123456789abcdefABCDEF") for value in values):
        starts = tuple(value.lower() for value in values)
        return lambda one: one.id.startswith(starts)
    fits = _regex(values)
    return lambda one: fits(one.id)


def _name(engine: Engine, values: list[str]) -> Predicate:
    fits = _regex([value.replace("/", "") for value in values])
    return lambda one: fits(one.name)


def _label(engine: Engine, values: list[str]) -> Predicate:
    return lambda one: match_labels(one.record.get("labels") or {}, values)


def _no_label(engine: Engine, values: list[str]) -> Predicate:
    return lambda one: match_no_labels(one.record.get("labels") or {}, values)


def _exited(engine: Engine, values: list[str]) -> Predicate:
    codes = set()
    for value in values:
        if not value.lstrip("+-").isdecimal() or not value.isascii():
            raise Usage(
                f'exited code out of range: strconv.ParseInt: parsing "{value}": invalid syntax'
            )
        codes.add(int(value))
    return lambda one: one.word == "exited" and one.exit_code in codes


def _status(engine: Engine, values: list[str]) -> Predicate:
    for value in values:
        if value not in _STATES:
            raise Usage(f"unknown container state: {value}: invalid argument")
    wanted = {"exited" if value == "stopped" else value for value in values}
    return lambda one: one.word in wanted


def _ancestor(engine: Engine, values: list[str]) -> Predicate:
    ids = []
    for value in values:
        try:
            image = engine.images.find(value)
        except RootlessError:
            image = None
        ids.append(image.id if image is not None else value.removeprefix("sha256:"))
    return lambda one: any(
        text and text in (one.record.get("image") or {}).get("id", "") for text in ids
    )


def _created(engine: Engine, values: list[str]) -> int:
    """When the oldest of these containers was made."""
    return min(
        int(engine.containers.read(engine.containers.lookup(value))["created"]) for value in values
    )


def _before(engine: Engine, values: list[str]) -> Predicate:
    border = _created(engine, values)
    return lambda one: one.record["created"] < border


def _since(engine: Engine, values: list[str]) -> Predicate:
    border = _created(engine, values)
    return lambda one: one.record["created"] > border


def _volume(engine: Engine, values: list[str]) -> Predicate:
    wanted = [value.partition(":")[::2] for value in values]

    def fits(one: Status) -> bool:
        for mount in one.record.get("mounts") or ():
            source, place = mount.get("source", ""), mount["destination"]
            for name, target in wanted:
                if target and (source, place) == (name, target):
                    return True
                if not target and name == (source if mount["type"] == "volume" else place):
                    return True
        return False

    return fits


def _health(engine: Engine, values: list[str]) -> Predicate:
    return lambda one: health_of(one) in values


def health_of(one: Status) -> str:
    """What the last health checks came to; empty where there are none."""
    health = (one.live or {}).get("health") or one.state.get("health") or {}
    return str(health.get("Status", "")) if isinstance(health, dict) else ""


def _until(engine: Engine, values: list[str]) -> Predicate:
    from rootless.moments import moment_ns

    if len(values) > 1:
        raise Usage("specify exactly one timestamp for until")
    try:
        border = moment_ns(values[0])
    except ValueError:
        raise Usage(f'failed to parse value as time or duration: "{values[0]}"') from None
    return lambda one: one.record["created"] < border


def _pod(engine: Engine, values: list[str]) -> Predicate:
    from rootless.state import Table

    pods = set()
    for value in values:
        try:
            pods.add(Table(engine.paths, "pod").lookup(value))
        except NotFound:
            continue
    return lambda one: one.record.get("pod", "") in pods


def _network(engine: Engine, values: list[str]) -> Predicate:
    shared = {
        engine.containers.lookup(value.partition(":")[2])
        for value in values
        if value.startswith("container:")
    }

    def fits(one: Status) -> bool:
        mode = str(one.record["options"].get("network") or "")
        if mode.startswith("container:"):
            try:
                return engine.containers.lookup(mode.partition(":")[2]) in shared
            except RootlessError:
                return False
        names = one.record["options"].get("networks") or {}
        return mode in values or any(name in values for name in names)

    return fits


def _restart_policy(engine: Engine, values: list[str]) -> Predicate:
    wrong = [value for value in values if value not in _POLICIES]
    if wrong:
        raise Usage(f"{', '.join(wrong)} invalid restart polic{'y' if len(wrong) == 1 else 'ies'}")

    def fits(one: Status) -> bool:
        policy = one.record["options"].get("restart") or ""
        return policy in values or (not policy and ("none" in values or "no" in values))

    return fits


def _should_start(engine: Engine, values: list[str]) -> Predicate:
    words = {"1": True, "t": True, "true": True, "0": False, "f": False, "false": False}
    wanted = words.get(values[-1].lower())
    if wanted is None:
        raise Usage(f'strconv.ParseBool: parsing "{values[-1]}": invalid syntax')

    def fits(one: Status) -> bool:
        policy = one.record["options"].get("restart") or ""
        starts = policy == "always" or (
            policy == "unless-stopped" and not one.state.get("stopped_by_user")
        )
        return starts == wanted

    return fits


def _command(engine: Engine, values: list[str]) -> Predicate:
    fits = _regex(values)
    return lambda one: fits((one.record.get("command") or [""])[0])


_FILTERS: dict[str, Callable[[Engine, list[str]], Predicate]] = {
    "ancestor": _ancestor,
    "before": _before,
    "command": _command,
    "exited": _exited,
    "health": _health,
    "id": _id,
    "label": _label,
    "label!": _no_label,
    "name": _name,
    "network": _network,
    "pod": _pod,
    "restart-policy": _restart_policy,
    "should-start-on-boot": _should_start,
    "since": _since,
    "status": _status,
    "until": _until,
    "volume": _volume,
}

KEYS = tuple(_FILTERS)

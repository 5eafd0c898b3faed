"""registries.conf v2: where a name is looked for, under which address, and whether it may be.

containers-registries.conf(5), containers-registries.conf.d(5). Read once per command that talks to a registry.
"""

from __future__ import annotations

import os

from rootless import files, paths, quicktoml
from rootless.errors import InvalidReference, NotFound, PolicyError, RootlessError, Usage
from rootless.image import reference
from rootless.image.reference import Reference

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

ENFORCING, PERMISSIVE, DISABLED = "enforcing", "permissive", "disabled"
AUTH_FILE_HELPER = "containers-auth.json"
_SYSTEM = "/etc/containers"
_PULL_FROM_MIRROR = ("", "all", "digest-only", "tag-only")


class Mirror:
    """One [[registry.mirror]] table."""

    __slots__ = ("insecure", "location", "pull_from_mirror")

    def __init__(self, location: str, insecure: bool = False, pull_from_mirror: str = "") -> None:
        self.location = location
        self.insecure = insecure
        self.pull_from_mirror = pull_from_mirror


class Registry:
    """One [[registry]] table."""

    __slots__ = ("blocked", "insecure", "location", "mirror_by_digest_only", "mirrors", "prefix")

    def __init__(
        self,
        prefix: str,
        location: str = "",
        insecure: bool = False,
        blocked: bool = False,
        mirrors: tuple[Mirror, ...] = (),
        mirror_by_digest_only: bool = False,
    ) -> None:
        self.prefix = prefix
        self.location = location
        self.insecure = insecure
        self.blocked = blocked
        self.mirrors = mirrors
        self.mirror_by_digest_only = mirror_by_digest_only

    def match_length(self, name: str) -> int:
        """Return how much of a full name the prefix covers; -1 where it does not match."""
        if self.prefix.startswith("*."):
            host = name.partition("/")[0]
            bare = host if "/" in name else host.partition("@")[0]
            return len(bare) if bare.endswith(self.prefix[1:]) else -1
        length = len(self.prefix)
        if name.startswith(self.prefix) and name[length : length + 1] in ("", "/", ":", "@"):
            return length
        return -1


class Endpoint:
    """One address to try: the reference as the registry knows it."""

    __slots__ = ("insecure", "is_mirror", "reference")

    def __init__(
        self, reference: Reference, insecure: bool = False, is_mirror: bool = False
    ) -> None:
        self.reference = reference
        self.insecure = insecure
        self.is_mirror = is_mirror


class Resolution:
    """The full names that a user's name may mean, to be tried in order."""

    __slots__ = ("candidates", "note", "remember")

    def __init__(self, candidates: list[Reference], note: str = "", remember: bool = False) -> None:
        self.candidates = candidates
        self.note = note
        # A choice made at a prompt is remembered once its pull has succeeded.
        self.remember = remember


class Registries:
    """All of registries.conf."""

    def __init__(self) -> None:
        self.search: list[str] = []
        self.search_origin = f"{_SYSTEM}/registries.conf"
        self.short_name_mode = ENFORCING
        self.helpers = [AUTH_FILE_HELPER]
        self.aliases: dict[str, str] = {}
        self.alias_origin: dict[str, str] = {}
        self.tables: dict[str, Registry] = {}

    def find(self, ref: Reference) -> Registry | None:
        """Return the [[registry]] table with the longest matching prefix."""
        name, best, found = str(ref), -1, None
        for table in self.tables.values():
            length = table.match_length(name)
            # A wildcard is always the least specific match, and the longer wildcard the better one.
            rank = length - 10_000 + len(table.prefix) if table.prefix[0] == "*" else length
            if length >= 0 and (found is None or rank > best):
                best, found = rank, table
        return found

    def is_insecure(self, ref: Reference) -> bool:
        table = self.find(ref)
        return table is not None and table.insecure

    def check_blocked(self, ref: Reference) -> None:
        table = self.find(ref)
        if table is not None and table.blocked:
            raise PolicyError(f"{ref}: registry {table.prefix} is blocked in registries.conf")

    def endpoints(self, ref: Reference) -> list[Endpoint]:
        """Return the addresses to pull from: the mirrors, then the registry itself."""
        self.check_blocked(ref)
        table = self.find(ref)
        if table is None:
            return [Endpoint(ref)]
        found: list[Endpoint] = []
        for mirror in table.mirrors:
            wanted = "digest-only" if table.mirror_by_digest_only else mirror.pull_from_mirror
            if (wanted == "digest-only" and not ref.digest) or (
                wanted == "tag-only" and ref.digest
            ):
                continue
            found.append(Endpoint(_rewrite(ref, table, mirror.location), mirror.insecure, True))
        found.append(Endpoint(_rewrite(ref, table, table.location), table.insecure))
        return found

    def resolve(
        self, ref: Reference, choose: Callable[[str, list[str]], int] | None = None
    ) -> Resolution:
        """Turn a name into full names.

        `choose` asks the user to pick one of several; without it, several registries are searched only where
        registries.conf says so, because whoever registers a name first at the first of them would win.
        """
        if not ref.is_short:
            return Resolution([ref])
        alias = self.aliases.get(ref.path)
        if alias:
            full = reference.parse(alias)
            found = Reference(full.domain, full.path, ref.tag, ref.digest)
            note = f'Resolved "{ref.path}" as an alias ({self.alias_origin[ref.path]})'
            return Resolution([found], note)
        if not self.search:
            raise InvalidReference(
                f'short-name "{ref}" did not resolve to an alias and no unqualified-search registries are defined '
                f'in "{self.search_origin}"',
                hint=f"name the registry, as in docker.io/library/{ref}",
            )
        found_all = [ref.with_domain(host) for host in self.search]
        note = f'Resolving "{ref.path}" using unqualified-search registries ({self.search_origin})'
        if self.short_name_mode == DISABLED or len(found_all) == 1:
            return Resolution(found_all, note)
        if choose is not None:
            names = [str(one.with_default_tag()) for one in found_all]
            return Resolution([found_all[choose(str(ref), names)]], remember=True)
        if self.short_name_mode == PERMISSIVE:
            return Resolution(found_all, note)
        raise InvalidReference(
            f'short-name "{ref}" is ambiguous: {", ".join(self.search)} are searched and there is no terminal '
            "to ask at",
            hint=f'name the registry, add an alias, or set short-name-mode = "permissive" in {self.search_origin}',
        )


def load(environ: Mapping[str, str] | None = None) -> Registries:
    """Read every registries.conf that applies to this user, in the order in which later ones win."""
    env = os.environ if environ is None else environ
    config = Registries()
    config.short_name_mode = ""
    main, dirs = _locations(env)
    if main and (env.get("CONTAINERS_REGISTRIES_CONF") or os.path.exists(main)):
        _merge(config, main, _read(main))
        config.search_origin = main
    for directory in dirs:
        try:
            names = sorted(os.listdir(directory))
        except (FileNotFoundError, NotADirectoryError):
            continue
        for name in names:
            if name.endswith(".conf"):
                _merge(config, f"{directory}/{name}", _read(f"{directory}/{name}"))
    override = env.get("CONTAINERS_REGISTRIES_CONF_OVERRIDE")
    if override:
        _merge(config, override, _read(override))
    cache = alias_cache_path(env)
    if os.path.exists(cache):
        _merge_aliases(config, cache, _read(cache).get("aliases", {}))
    config.short_name_mode = config.short_name_mode or ENFORCING
    return config


def alias_cache_path(env: Mapping[str, str]) -> str:
    if os.geteuid() == 0:
        return "/var/cache/containers/short-name-aliases.conf"
    base = env.get("XDG_CACHE_HOME") or f"{paths.home()}/.cache"
    return f"{base}/containers/short-name-aliases.conf"


def remember_alias(name: str, full: Reference, environ: Mapping[str, str] | None = None) -> None:
    """Record that a short name means a repository, as Podman's machine-written alias file does."""
    path = alias_cache_path(os.environ if environ is None else environ)
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    with files.Lock(f"{path}.lock"):
        try:
            aliases = _read(path).get("aliases", {})
        except NotFound:
            aliases = {}
        aliases[name] = full.name
        # The grammar of references leaves nothing in either word that TOML would need escaped.
        lines = [f'  "{key}" = "{value}"' for key, value in sorted(aliases.items())]
        files.write_atomic(path, ("[aliases]\n" + "\n".join(lines) + "\n").encode())


def _locations(env: Mapping[str, str]) -> tuple[str, list[str]]:
    chosen = env.get("CONTAINERS_REGISTRIES_CONF") or env.get("REGISTRIES_CONFIG_PATH")
    user = f"{paths.config_home()}/containers"
    dirs = [f"{_SYSTEM}/registries.conf.d", f"{user}/registries.conf.d"]
    if chosen:
        return chosen, dirs
    if os.path.exists(f"{user}/registries.conf"):
        return f"{user}/registries.conf", dirs[1:]
    return f"{_SYSTEM}/registries.conf", dirs


def _read(path: str) -> dict[str, Any]:
    try:
        data = files.read_bytes(path)
    except FileNotFoundError:
        raise NotFound(f"{path}: no such file") from None
    except OSError as error:
        raise RootlessError(f"{path}: {error.strerror}") from error
    try:
        return quicktoml.loads(data)
    except ValueError as error:
        raise RootlessError(f"{path}: not valid TOML: {error}") from error


def _merge(config: Registries, path: str, document: dict[str, Any]) -> None:
    _check_types(path, document)
    if "registries" in document:
        if "registry" in document or "unqualified-search-registries" in document:
            raise Usage(f"{path}: mixes the version 1 and version 2 formats of registries.conf")
        _merge_v1(config, path, document["registries"])
        return
    if "unqualified-search-registries" in document:
        config.search = [
            _location(path, host) for host in document["unqualified-search-registries"]
        ]
        config.search_origin = path
    if "credential-helpers" in document:
        config.helpers = list(document["credential-helpers"]) or [AUTH_FILE_HELPER]
    mode = document.get("short-name-mode", "")
    if mode:
        if mode not in (ENFORCING, PERMISSIVE, DISABLED):
            raise Usage(
                f"{path}: short-name-mode {mode!r} is none of enforcing, permissive, disabled"
            )
        config.short_name_mode = mode
    for table in document.get("registry", []):
        entry = _table(path, table)
        config.tables[entry.prefix] = entry
    _merge_aliases(config, path, document.get("aliases", {}))


def _merge_v1(config: Registries, path: str, document: dict[str, Any]) -> None:
    def listed(section: str) -> list[str]:
        return [_location(path, host) for host in document.get(section, {}).get("registries", [])]

    config.search, config.search_origin = listed("search"), path
    insecure, blocked = listed("insecure"), listed("block")
    for host in dict.fromkeys(insecure + blocked):
        config.tables[host] = Registry(host, host, host in insecure, host in blocked)


def _merge_aliases(config: Registries, path: str, aliases: dict[str, str]) -> None:
    for name, value in aliases.items():
        short = reference.parse(name)
        if not short.is_short or not short.is_name_only:
            raise Usage(f"{path}: alias {name!r} is not a short name without tag or digest")
        if not value:
            config.aliases.pop(name, None)
            continue
        full = reference.parse(value)
        if full.is_short or not full.is_name_only:
            raise Usage(
                f"{path}: alias {name!r}: {value!r} must name a registry and neither tag nor digest"
            )
        config.aliases[name] = value
        config.alias_origin[name] = path


def _table(path: str, table: dict[str, Any]) -> Registry:
    prefix = _location(path, table.get("prefix", ""))
    location = _location(path, table.get("location", ""))
    if not prefix and not location:
        raise Usage(f"{path}: a [[registry]] has neither prefix nor location")
    prefix = prefix or location
    if prefix.startswith("*"):
        if not prefix.startswith("*.") or "/" in prefix or ":" in prefix:
            raise Usage(f"{path}: prefix {prefix!r}: a wildcard must have the form *.example.com")
    elif "*" in prefix:
        raise Usage(f"{path}: prefix {prefix!r}: a wildcard is allowed at the beginning only")
    elif not location:
        location = prefix
    by_digest = bool(table.get("mirror-by-digest-only", False))
    mirrors = []
    for one in table.get("mirror", []):
        wanted = one.get("pull-from-mirror", "")
        if wanted not in _PULL_FROM_MIRROR:
            raise Usage(
                f"{path}: pull-from-mirror {wanted!r} is none of all, digest-only, tag-only"
            )
        if wanted and by_digest:
            raise Usage(
                f"{path}: pull-from-mirror and mirror-by-digest-only exclude each other ({prefix})"
            )
        mirror = _location(path, one.get("location", ""))
        if not mirror:
            raise Usage(f"{path}: a mirror of {prefix} has no location")
        mirrors.append(Mirror(mirror, bool(one.get("insecure", False)), wanted))
    return Registry(
        prefix,
        location,
        bool(table.get("insecure", False)),
        bool(table.get("blocked", False)),
        tuple(mirrors),
        by_digest,
    )


_LIST_KEYS = ("unqualified-search-registries", "credential-helpers", "registry")
_BOOL_KEYS = ("insecure", "blocked", "mirror-by-digest-only")


def _check_types(path: str, document: dict[str, Any]) -> None:
    for key, value in document.items():
        wrong = (
            (key in _LIST_KEYS and not isinstance(value, list))
            or (key in ("aliases", "registries") and not isinstance(value, dict))
            or (key == "short-name-mode" and not isinstance(value, str))
        )
        if wrong:
            raise Usage(f"{path}: {key} has the wrong type")
    for key in _LIST_KEYS[:2]:
        if not all(isinstance(one, str) for one in document.get(key, [])):
            raise Usage(f"{path}: {key} must be a list of strings")
    for key, value in document.get("aliases", {}).items():
        if not isinstance(value, str):
            raise Usage(f"{path}: alias {key!r} is not a string")
    for table in document.get("registry", []):
        for one in [table, *table.get("mirror", [])] if isinstance(table, dict) else [table]:
            if not isinstance(one, dict):
                raise Usage(f"{path}: registry must be a list of tables, [[registry]]")
            for key in _BOOL_KEYS:
                if not isinstance(one.get(key, False), bool):
                    raise Usage(f"{path}: {key} must be true or false")
            for key in ("prefix", "location"):
                if not isinstance(one.get(key, ""), str):
                    raise Usage(f"{path}: {key} must be a string")


def _location(path: str, text: str) -> str:
    text = text.rstrip("/")
    if "://" in text:
        raise Usage(
            f"{path}: location {text!r} must not have a URI scheme", hint="write host[:port][/path]"
        )
    return text


def _rewrite(ref: Reference, table: Registry, location: str) -> Reference:
    if not location:
        return ref
    name = str(ref)
    text = location + name[table.match_length(name) :]
    try:
        return reference.parse(text)
    except InvalidReference as error:
        raise InvalidReference(
            f"{ref}: registries.conf rewrites it into {text!r}: {error}"
        ) from error

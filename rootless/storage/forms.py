"""Whether a layer's files have the owners, as they lie on the disk, that this user's containers need.

    native    unpacked with this user's id map: the kernel's overlay shows them as they are
    masked    in a store for others (force_mask): owners and modes are in xattrs, which fuse-overlayfs reads
    strange   unpacked with another map: of another user, or of this one before the sub-id ranges were changed

A store's `idmap` says with which map all of its own layers can be used, so that `run` reads one file and not one for
each layer. Where it is missing or another one, the layers' own records decide. Lean: `run` comes through here.
"""

from __future__ import annotations

import os

from rootless import quickjson as json
from rootless.files import read_bytes, write_atomic
from rootless.linux.idmap import IdMap, Unmapped, compose, read_map, to_host

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from rootless.storage.layers import LayerStore

    Range = tuple[int, int, int]

NATIVE, MASKED, STRANGE = "native", "masked", "strange"


def form_of(store: LayerStore, chain: str, own: IdMap) -> str:
    """The form of one layer, by its record."""
    try:
        record = store.record(chain)
    except FileNotFoundError:
        return NATIVE  # of a store that is being damaged; whoever reads the layer says so
    if record.get("force_mask") is not None:
        return MASKED
    made = record.get("map")
    if made is None or covers(own, IdMap.from_json(made)):
        return NATIVE
    return STRANGE


def odd_layers(store: LayerStore, chains: Iterable[str]) -> dict[str, str]:
    """The layers among `chains` that are not native, with their form."""
    own = on_host(store.idmap())
    stamp = _stamp(own)
    try:
        known = read_bytes(_stamp_path(store))
    except FileNotFoundError:
        known = b""
    if known == stamp:
        # Only what lies in another store can be otherwise.
        chains = [chain for chain in chains if not store.is_own(chain)]
    forms = {chain: form_of(store, chain, own) for chain in chains}
    found = {chain: form for chain, form in forms.items() if form != NATIVE}
    if known != stamp and not found:
        _settle(store, own, stamp)
    return found


def _settle(store: LayerStore, own: IdMap, stamp: bytes) -> None:
    """Note that every own layer can be used with the map of now, where that is so: of a store from before, or after
    ranges were added."""
    chains = list(store.all())
    if chains and all(form_of(store, chain, own) == NATIVE for chain in chains):
        try:
            write_atomic(_stamp_path(store), stamp, store.mode)
        except OSError:
            return  # a full disk; the next command finds it out again


def note(store: LayerStore, made: IdMap, *, masked: bool) -> None:
    """Keep the store's `idmap` true before a layer of this map appears in it."""
    path = _stamp_path(store)
    stamp = _stamp(on_host(made))
    try:
        if read_bytes(path) != stamp or masked:
            os.unlink(path)
    except FileNotFoundError:
        if not masked and next(store.all(), None) is None:
            write_atomic(path, stamp, store.mode)


def _stamp_path(store: LayerStore) -> str:
    return f"{os.path.dirname(store.root)}/idmap"


def _stamp(idmap: IdMap) -> bytes:
    return json.dumps(idmap.to_json(), separators=(",", ":")).encode()


def covers(own: IdMap, made: IdMap) -> bool:
    """Whether every id of a layer's map is the same id of the host in our own."""
    return _covers(own.uids, made.uids) and _covers(own.gids, made.gids)


def _covers(own: list[Range], made: list[Range]) -> bool:
    for inside, host, size in made:
        same = 0
        for other, start, length in own:
            if host - inside == start - other:
                same += max(0, min(inside + size, other + length) - max(inside, other))
        if same < size:
            return False
    return True


def on_host(idmap: IdMap) -> IdMap:
    """A map to the ids of the user namespace that we are in (`rootless unshare`) as a map to those around it."""
    if os.geteuid() != 0:
        return idmap
    maps = []
    for name, ranges in (("uid_map", idmap.uids), ("gid_map", idmap.gids)):
        try:
            maps.append(compose(ranges, read_map("self", name)))
        except Unmapped:
            maps.append(ranges)  # nothing is known of an id that is not mapped here
    return IdMap(*maps)


def is_extended(own: IdMap, made: IdMap) -> bool:
    """Whether a layer was unpacked for one id only, and there are more now: its owners were squashed."""
    return made.is_single and not own.is_single and to_host(own.uids, 0) == to_host(made.uids, 0)

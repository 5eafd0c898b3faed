"""Which layers can be used with which id map, and how much is read to know it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rootless.linux.idmap import IdMap
from rootless.storage import forms
from rootless.storage.layers import LayerStore

OWN = IdMap([(0, 1000, 1), (1, 100000, 65536)], [(0, 1000, 1), (1, 100000, 65536)])
EXTENDED = IdMap([*OWN.uids, (65537, 300000, 10)], [*OWN.gids, (65537, 300000, 10)])
MOVED = IdMap([(0, 1000, 1), (1, 200000, 65536)], [(0, 1000, 1), (1, 200000, 65536)])
SINGLE = IdMap([(0, 1000, 1)], [(0, 1000, 1)])
CHAINS = [f"sha256:{digit * 64}" for digit in "ab"]


def layer(root: Path, chain: str, made: IdMap, **more: object) -> None:
    folder = root / chain[7:]
    (folder / "diff").mkdir(parents=True)
    record = {
        "chain": chain, "parent": "", "diff_id": chain, "size": 0, "entries": 0, "spoiled": "",
        "map": made.to_json(), **more,
    }  # fmt: skip
    (folder / "layer.json").write_text(json.dumps(record))


@pytest.mark.parametrize(
    ("own", "made", "covered"),
    [
        (OWN, OWN, True),
        (EXTENDED, OWN, True),
        (OWN, EXTENDED, False),
        (OWN, MOVED, False),
        (OWN, SINGLE, True),
        (SINGLE, OWN, False),
        (IdMap([(0, 5, 10)], [(0, 5, 10)]), IdMap([(0, 5, 4), (4, 9, 6)], [(2, 7, 3)]), True),
    ],
)
def test_a_map_covers_another(own: IdMap, made: IdMap, covered: bool) -> None:
    assert forms.covers(own, made) is covered


def test_one_id_became_many() -> None:
    assert forms.is_extended(OWN, SINGLE)
    assert not forms.is_extended(EXTENDED, OWN)


def test_layers_and_the_note_about_them(tmp_path: Path) -> None:
    root, shared = tmp_path / "own/layers", tmp_path / "shared/layers"
    layer(root, CHAINS[0], OWN)
    layer(shared, CHAINS[1], OWN, force_mask=0o755)
    current = OWN
    store = LayerStore(str(root), str(tmp_path / "tmp"), lambda: current, (str(shared),))
    note = tmp_path / "own/idmap"
    assert forms.odd_layers(store, CHAINS) == {CHAINS[1]: forms.MASKED}
    assert not note.exists()
    assert forms.odd_layers(store, CHAINS[:1]) == {}
    assert json.loads(note.read_text()) == OWN.to_json()
    # From now on it alone is read of the own ones.
    (root / CHAINS[0][7:] / "layer.json").unlink()
    assert forms.odd_layers(store, CHAINS) == {CHAINS[1]: forms.MASKED}
    layer(root.parent / "x", CHAINS[0], OWN)
    (root.parent / "x" / CHAINS[0][7:] / "layer.json").rename(root / CHAINS[0][7:] / "layer.json")
    current = EXTENDED
    assert forms.odd_layers(store, CHAINS[:1]) == {}
    assert json.loads(note.read_text()) == EXTENDED.to_json()
    current = MOVED
    assert forms.odd_layers(store, CHAINS[:1]) == {CHAINS[0]: forms.STRANGE}
    assert json.loads(note.read_text()) == EXTENDED.to_json()


def test_a_layer_of_another_map_ends_the_note(tmp_path: Path) -> None:
    root = tmp_path / "own/layers"
    root.mkdir(parents=True)
    store = LayerStore(str(root), str(tmp_path / "tmp"), lambda: OWN)
    note = tmp_path / "own/idmap"
    forms.note(store, OWN, masked=False)
    assert json.loads(note.read_text()) == OWN.to_json()
    layer(root, CHAINS[0], OWN)
    forms.note(store, OWN, masked=False)
    assert note.exists()
    forms.note(store, MOVED, masked=False)
    assert not note.exists()
    forms.note(store, OWN, masked=False)
    assert not note.exists()

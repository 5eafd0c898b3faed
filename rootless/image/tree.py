"""`image tree`: an image's layers, and which images end at each."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.image.store import Image, ImageStore


class Branch:
    """One layer, the images whose topmost layer it is, and, for --whatrequires, the layers upon it."""

    __slots__ = ("above", "chain", "diff_id", "size", "top_of")

    def __init__(self, chain: str, diff_id: str, size: int) -> None:
        self.chain = chain
        self.diff_id = diff_id
        self.size = size
        self.top_of: list[str] = []
        self.above: list[Branch] = []


def layers(store: ImageStore, image: Image) -> list[Branch]:
    """The image's own layers, base first."""
    found = []
    for chain, diff_id in zip(image.layers, image.diff_ids, strict=True):
        branch = Branch(chain, diff_id, store.layers.record(chain)["size"])
        for other in store.list():
            if other.layers and other.layers[-1] == chain:
                branch.top_of += other.names
        found.append(branch)
    return found


def requirers(store: ImageStore, image: Image) -> Branch | None:
    """The image's topmost layer and everything that stands upon it."""
    if not image.layers:
        return None
    found: dict[str, Branch] = {}
    top = image.layers[-1]
    root: Branch | None = None
    for other in store.list():
        if top not in other.layers:
            continue
        start = other.layers.index(top)
        below: Branch | None = None
        for chain, diff_id in list(zip(other.layers, other.diff_ids, strict=True))[start:]:
            branch = found.get(chain)
            if branch is None:
                branch = found[chain] = Branch(chain, diff_id, store.layers.record(chain)["size"])
                if below is None:
                    root = branch
                else:
                    below.above.append(branch)
            below = branch
        assert below is not None
        below.top_of += other.names
    return root

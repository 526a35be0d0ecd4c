"""What exactly was measured: hashes of the identity and of the clips."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dgtalker.identity import Identity
    from dgtalker.video.dataset import Clip


def identity_hash(identity: Identity) -> str:
    """sha256 of the identity's tensors."""
    digest = hashlib.sha256()
    for module in (identity.navigation, identity.head):
        for name, value in sorted(module.state_dict().items()):
            digest.update(name.encode())
            digest.update(value.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def dataset_hash(clips: list[Clip]) -> str:
    """sha256 of the evaluated clips' frames."""
    digest = hashlib.sha256()
    for clip in clips:
        digest.update(clip.name.encode())
        digest.update(clip.images.numpy().tobytes())
    return digest.hexdigest()

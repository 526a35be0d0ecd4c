"""The pack as docs/formats.md describes it: what it holds, that it is small and always the same."""

import hashlib
import json
import struct

import numpy as np
import pytest

from dgtalker.identity import Identity, list_identities
from dgtalker.web.pack import write_pack


def read_pack(pack: bytes) -> tuple[dict, dict[str, np.ndarray]]:
    magic, version, size, digest = struct.unpack_from("<8sII32s", pack)
    assert magic == b"DGTHEAD\n" and version == 1 and digest == hashlib.sha256(pack[48:]).digest()
    header, start = json.loads(pack[48 : 48 + size]), 48 + size
    assert start % 8 == 0 and len(pack) == start + header["tensor_bytes"]
    tensors = {}
    for place in header["tensors"]:
        count, offset = int(np.prod(place["shape"])), start + place["offset"]
        tensors[place["name"]] = np.frombuffer(pack, place["dtype"], count, offset).reshape(place["shape"])
    return header, tensors


def test_pack_holds_the_head_to_the_precision_of_its_file(fake_identity_with_controls):
    identity = Identity.from_pretrained(fake_identity_with_controls)
    header, tensors = read_pack(write_pack(identity))
    assert header["exp"] == identity.exp_names and header["lip"] == identity.lip_names
    assert header["ranges"] == identity.ranges.tolist() and header["labels"] == identity.labels
    assert [c["name"] for c in header["controls"]] == identity.control_names
    assert header["blink"]["linear"] == identity.blink_weights[0].tolist()
    for part, module in (("head", identity.head), ("controls", identity.face_controls)):
        for name, value in module.state_dict().items():
            if name in ("upper_weight", "lower_weight", "part"):
                assert f"{part}.{name}" not in tensors
                continue
            stored = tensors[f"{part}.{name}"].astype(np.float32)
            if tensors[f"{part}.{name}"].dtype == np.int8:
                stored = stored * tensors[f"{part}.{name}.scale"]
            np.testing.assert_allclose(stored, value.numpy(), rtol=0, atol=1e-6)  # saved and loaded: nothing is lost


def test_pack_is_the_same_bytes_every_time_and_another_for_another_head(fake_identity, fake_identity_with_controls):
    first, again, other = (
        write_pack(Identity.from_pretrained(f)) for f in (fake_identity, fake_identity, fake_identity_with_controls)
    )
    assert first == again and first != other


@pytest.mark.parametrize("name", list_identities())
def test_packs_of_shipped_heads_are_small(name):
    identity = Identity.from_pretrained(name)
    limit = 6.5e6 if identity.head.count <= 20_000 else 16e6
    assert len(write_pack(identity)) <= limit

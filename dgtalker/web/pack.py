"""The pack: everything that the browser's renderer needs of a head, in one file; docs/formats.md describes it.

    magic [8] | version uint32 | header bytes uint32 | SHA-256 [32] of all that follows | header, JSON | tensors

Little-endian. The tensors are those of the baked head and its face controls in the precision of the identity's own file
(pretrained.quantize_int8: int8 bases with their steps). The same head always gives the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping

import torch
from torch import Tensor

from dgtalker.files import json_safe
from dgtalker.head.baked import ATTRIBUTES
from dgtalker.identity import Identity, compress_tensors

MAGIC = b"DGTHEAD\n"
VERSION = 1
PREFIX = struct.Struct("<8sII32s")
ALIGNMENT = 8  # bytes, of every tensor and of the header's end
NOT_DRAWN = ("head.upper_weight", "head.lower_weight", "head.part")  # for masks and figures only
DTYPES = {torch.float32: "float32", torch.float16: "float16", torch.int8: "int8", torch.int32: "int32"}


def write_pack(identity: Identity) -> bytes:
    """The pack of an identity: about 3.9 MB for 16k splats, 10.5 MB for 63k; gzip leaves a third of it."""
    tensors = _drawn_tensors(identity)
    places, parts, offset = [], [], 0
    for name, tensor in sorted(tensors.items()):
        data = _pad(tensor.contiguous().numpy().tobytes(), b"\0")
        places.append({"name": name, "dtype": DTYPES[tensor.dtype], "shape": list(tensor.shape), "offset": offset})
        parts.append(data)
        offset += len(data)
    header = {**_describe(identity), "tensors": places, "tensor_bytes": offset}
    text = json.dumps(json_safe(header), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-(PREFIX.size + len(text)) % ALIGNMENT)
    body = text + b"".join(parts)
    return PREFIX.pack(MAGIC, VERSION, len(text), hashlib.sha256(body).digest()) + body


def _pad(data: bytes, filler: bytes) -> bytes:
    return data + filler * (-len(data) % ALIGNMENT)


def _drawn_tensors(identity: Identity) -> Mapping[str, Tensor]:
    """Tensors "head.KEY" and "controls.KEY" on the CPU, in the precision of the file."""
    states = {"head": identity.head.state_dict()}
    if identity.face_controls is not None:
        states["controls"] = identity.face_controls.state_dict()
    tensors = {f"{part}.{key}": value.detach().cpu() for part, state in states.items() for key, value in state.items()}
    return compress_tensors({name: tensor for name, tensor in tensors.items() if name not in NOT_DRAWN})


def _describe(identity: Identity) -> dict:
    """The header without its table of tensors."""
    linear, quadratic, unit = identity.blink_weights.tolist()
    config = identity.config
    return {
        "name": identity.name,
        "title": identity.title,
        "splats": identity.head.count,
        "ranks": {name: identity.head.ranks[name] for name in ATTRIBUTES},
        "exp": identity.exp_names,
        "lip": identity.lip_names,
        "labels": identity.labels,
        "ranges": identity.ranges.tolist(),
        "blink": {"linear": linear, "quadratic": quadratic, "unit": unit},
        "controls": [
            {"name": c.name, "label": c.label, "region": c.region, "lids": c.lids, "splats": c.splats}
            for c in identity.controls
        ],
        "attribution": str(config.get("attribution", "")),
        "license": str(config.get("license", "")),
        "identity_sha256": str(config.get("weights_sha256", "")),
    }

"""ffmpeg filters that bring any picture to progressive, full-range R'G'B' of Rec. 709.

HDR follows ITU-R BT.2408: 203 cd/m^2 is the white of standard pictures; what is brighter is rolled off.
"""

from __future__ import annotations

from dgtalker.media.probe import MediaInfo

_HDR_TRANSFERS = {"arib-std-b67": "arib-std-b67", "smpte2084": "smpte2084"}  # HLG and PQ, under zscale's names
_WIDE_PRIMARIES = {"bt2020": "bt2020", "smpte432": "smpte432", "smpte431": "smpte431"}  # BT.2020, Display and DCI P3
_SDR_TRANSFERS = {"bt709", "smpte170m", "bt2020-10", "bt2020-12", "iec61966-2-1", "linear"}
_MATRICES = {"bt2020nc": "2020_ncl", "bt2020c": "2020_cl", "bt709": "709", "smpte170m": "170m", "bt470bg": "470bg"}
_WHITE_NITS, _PEAK_NITS = 203, 1000
_HD_ROWS = 720  # from here on, pictures without tags use the matrix of Rec. 709; below, that of Rec. 601


def deinterlace_filter(info: MediaInfo) -> str:
    """Filter, ended by a comma, that makes whole pictures of the fields of an interlaced film; "" for others."""
    if info.field_order == "flagged":
        return "bwdif=mode=send_frame:deint=interlaced,"
    return f"setfield={info.field_order},bwdif=mode=send_frame:deint=all," if info.field_order else ""


def scale_filter(info: MediaInfo, width: int, height: int) -> str:
    """Filter, ended by a comma, that scales to square pixels; the matrix of untagged HD pictures is Rec. 709's."""
    untagged_hd = info.matrix in ("", "unknown") and min(info.width, info.height) >= _HD_ROWS and info.is_yuv
    matrix = ":in_color_matrix=bt709" if untagged_hd else ""
    return f"scale={width}:{height}:flags=area+accurate_rnd+full_chroma_int{matrix},setsar=1,"


def rec709_filter(info: MediaInfo) -> str:
    """Filter, ended by a comma, from HDR or a wide gamut to Rec. 709; "" for pictures that need none."""
    hdr = _HDR_TRANSFERS.get(info.transfer)
    primaries = _WIDE_PRIMARIES.get(info.primaries)
    if not hdr and not primaries:
        return ""
    transfer = hdr or (info.transfer if info.transfer in _SDR_TRANSFERS else "bt709")
    primaries = primaries or "bt2020"
    source = f"tin={transfer}:pin={primaries}:p={primaries}"
    if info.is_yuv:
        source += f":min={_MATRICES.get(info.matrix, '2020_ncl' if hdr else '709')}"
        source += f":rin={'full' if info.full_range else 'limited'}"
    nits = _WHITE_NITS if hdr else 100
    tonemap = f"tonemap=mobius:param=0.85:peak={_PEAK_NITS / _WHITE_NITS:.2f}:desat=0," if hdr else ""
    fine = "format=yuv444p12le," if info.is_yuv else "format=gbrp12le,"  # zscale wants no halved chroma in odd sizes
    return (
        f"{fine}zscale={source}:t=linear:m=gbr:r=full:npl={nits},format=gbrpf32le,zscale=p=bt709,{tonemap}"
        "zscale=t=bt709:m=gbr:r=full,"
    )

"""README.md of a speech backbone's folder."""

from __future__ import annotations

from dgtalker.navigation.speech_backbone import SpeechBackbone


def speech_card(name: str, backbone: SpeechBackbone, trained_on: dict, figures: dict) -> str:
    """Markdown: what the backbone is, what it was trained on, its metrics, and attribution."""
    config, weights = backbone.config, sum(p.numel() for p in backbone.parameters())
    others = ""
    if trained_on["recordings"]:
        others = (
            f", and {trained_on['recordings']} recordings without a picture ({trained_on['recording_seconds']:.0f} s) "
            "whose lips are transferred from the films along the phones"
        )
    lines = [
        f"# {name}",
        "",
        "A speech backbone for DGTalker: audio features to what lips do. The lip encoders of identities start from it.",
        "",
        f"* {weights / 1e6:.2f} M parameters, {config.hidden} hidden channels, frames see {config.reach} to each side.",
        f"* Hears {config.feature_kind} features; says {', '.join(config.channels)}, in standard deviations of its "
        "films.",
        f"* Trained on {trained_on['films']} films ({trained_on['film_seconds']:.0f} s) with lips as measured{others}, "
        "each augmented several times to other voices and rooms.",
    ]
    if trained_on.get("source"):
        lines.append(f"* Material: {trained_on['source']}.")
    if figures:
        lines += ["", "Mean correlation per clip on films that it was not trained on:", ""]
        lines += ["| films | clips | aperture | width | pucker |", "|---|---|---|---|---|"]
        lines += [
            f"| {source} | {block['clips']} | {block['aperture_r']:.3f} | {block['width_r']:.3f} | "
            f"{block['mouthPucker_r']:.3f} |"
            for source, block in figures.items()
        ]
    if trained_on.get("attribution"):
        lines += ["", "## Attribution", "", trained_on["attribution"]]
    return "\n".join(lines) + "\n"

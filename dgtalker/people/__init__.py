"""Synthetic people with known shape, expression and appearance, for training and measuring the prior.

A person: `morphs` (head shapes), `fitted` (eyes, teeth, lashes), `hair`, `textures`, over which `assets` loads a
MakeHuman folder and `person` draws people at random; `rays` finds what lies along a ray.
Their pictures: `capture`; talking: `talking_videos`, with `recorded_expressions` or `random_expressions`.
The prior's training data: `source` makes people, `target_cache` keeps them in the folder of `cache_key`, `generation`
fills it. `template` makes the head template that all of them share.
"""

from dgtalker.people.assets import PersonAssets
from dgtalker.people.capture import PersonRenderer, capture
from dgtalker.people.person import Person, compute_person_texels, sample_person

__all__ = ["Person", "PersonAssets", "PersonRenderer", "capture", "compute_person_texels", "sample_person"]

"""Synthetic people with known shape, expression and appearance, for training and measuring the prior."""

from dgtalker.people.assets import PersonAssets
from dgtalker.people.capture import PersonRenderer, capture
from dgtalker.people.person import Person, person_geometry, person_texels, sample_person

__all__ = ["Person", "PersonAssets", "PersonRenderer", "capture", "person_geometry", "person_texels", "sample_person"]

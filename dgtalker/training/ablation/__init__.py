"""Variants of an identity's navigation, trained and compared on held-out clips."""

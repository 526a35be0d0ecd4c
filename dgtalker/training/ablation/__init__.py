"""Ablation: variants of an identity's navigation are trained and compared on held-out clips."""

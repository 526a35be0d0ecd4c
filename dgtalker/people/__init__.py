"""Synthetic people with known shape, expression and appearance, for training and measuring the prior."""

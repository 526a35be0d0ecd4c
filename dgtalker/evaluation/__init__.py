"""Measure identities on held-out clips (evaluate.py), priors on held-out people (prior) and speech backbones."""

from dgtalker.evaluation.evaluate import EvaluationConfig, evaluate

__all__ = ["EvaluationConfig", "evaluate"]

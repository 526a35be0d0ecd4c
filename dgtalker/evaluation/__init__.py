"""How good is an identity on clips that it never saw? Start reading at evaluate.py."""

from dgtalker.evaluation.evaluate import EvaluationConfig, evaluate

__all__ = ["EvaluationConfig", "evaluate"]

"""How good is a prior on people that it never saw? Start reading at report.py."""

from dgtalker.evaluation.prior.report import PriorReportConfig, evaluate_prior

__all__ = ["PriorReportConfig", "evaluate_prior"]

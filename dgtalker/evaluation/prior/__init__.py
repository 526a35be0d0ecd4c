"""Measure a prior on held-out people. Start reading at report.py."""

from dgtalker.evaluation.prior.report import PriorReportConfig, evaluate_prior

__all__ = ["PriorReportConfig", "evaluate_prior"]

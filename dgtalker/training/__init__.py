"""Training: the prior, and the stages that make an identity."""

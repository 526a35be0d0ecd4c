"""Training of the speech backbone that lip encoders start from."""

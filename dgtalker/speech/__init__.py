"""Training data of the speech backbone: recordings, measured or transferred lip motion, synthetic voices."""

"""Training of the Gaussian generative prior on synthetic people. Start reading at train.py."""

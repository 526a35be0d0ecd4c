"""Training of the prior, of identities and of the speech backbone, and ablations of an identity."""

"""From a data set to an identity: inversion, tuning, navigation, baking. Start reading at create.py."""

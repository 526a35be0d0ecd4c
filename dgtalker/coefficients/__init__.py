"""What each coefficient of an identity does, measured on its baked head: order, sign, name, purity, range, pictures."""

"""The head: template, generator (the prior) and its baked form."""

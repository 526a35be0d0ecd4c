"""The head: template, generator (the prior) and baked head. Start reading at generator.py, then baked.py."""

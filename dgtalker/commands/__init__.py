"""One module a command, with EXAMPLE, `configure(parser)`, which adds its options, and `run(args)`, which does it.

Its first line is its usage. `options` and `console` hold what several commands share.
"""

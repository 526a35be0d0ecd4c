"""One module per command of the command line: `configure(parser)` adds its options, `run(args)` does it."""

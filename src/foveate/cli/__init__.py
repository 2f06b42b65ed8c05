"""The command line: one file per verb, loaded only when that verb runs.

Owns arguments, printing, exit codes and the interactive session. Does not know how a model or a decoder
works: it calls the other rooms' public functions, and imports them inside a command, so `--help` is instant.
"""

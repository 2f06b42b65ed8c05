"""One file per group of endpoints; each has a `router`. Routes translate: the work is done in `foveate.serve`'s
other files.
"""

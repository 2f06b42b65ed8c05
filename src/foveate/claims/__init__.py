"""Published claims, each shown or not shown here by an experiment of its own: one file per system.

A claim fixes its statement, arms and margin before it runs; what comes out is recorded whichever way it went.
`registry` finds claims by name, `running` runs and resumes them, `results` reads what was recorded and says when it
is stale, `systems` lists every published system that Foveate works on. Importing this package imports no torch.
"""

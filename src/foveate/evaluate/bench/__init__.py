"""`foveate bench`: one model, many reducers and budgets, the same questions in every cell.

grid.py says what is measured, items.py which questions, runner.py and speed.py measure, folder.py keeps what they
found, summary.py turns it into accuracies and paired differences, report.py shows it, planning.py recommends a budget.
Only runner.py and speed.py need a model; everything after them works from the run's folder.
"""

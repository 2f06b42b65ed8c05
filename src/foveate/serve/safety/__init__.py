"""What keeps a server safe: fetching media, API keys with budgets, and a watch on runaway answers.

Each part is a settings record, a class that enforces it, and a table of its limits for the docs. Knows no HTTP
framework, no model and no engine: the server asks, and carries out what it is told.
"""

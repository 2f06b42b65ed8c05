"""One file per method; nothing is imported here, the registry imports lazily."""

"""One file per family; nothing is imported here, the registry imports lazily."""

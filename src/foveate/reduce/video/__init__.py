"""Methods over the frames of a video together, one file each; nothing is imported here, the registry imports lazily."""

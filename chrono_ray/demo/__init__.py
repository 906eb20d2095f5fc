"""A small Wayback-compatible archive over the invented history of an invented site."""

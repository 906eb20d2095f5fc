"""Progress while it happens, for whoever listens."""

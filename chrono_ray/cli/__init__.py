"""The `chrono` command."""

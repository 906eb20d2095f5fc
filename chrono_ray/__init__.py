"""From a list of domains and dates to a complete, searchable, citable history."""

__version__ = "0.1.0"

"""A small archive of an invented town, spoken to as one speaks to the Wayback Machine.

`site` makes the history, `server` serves it, `python -m chrono_ray.demo` runs
it as a process of its own. Nothing is imported here, so this stays cheap.
"""

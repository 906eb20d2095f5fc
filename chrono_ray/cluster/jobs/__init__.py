"""The entry points of `ray job submit`: each runs without Ray too; only `submit` speaks to it."""

"""The record: PostgreSQL and the payload bytes it names."""

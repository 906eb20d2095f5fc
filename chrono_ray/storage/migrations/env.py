"""Alembic's entry: the connection is handed over by storage/migrate.py."""

from __future__ import annotations

from alembic import context

from chrono_ray.storage.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()

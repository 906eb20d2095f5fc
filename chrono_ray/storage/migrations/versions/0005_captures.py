"""Captures over HTTP: what their lists are read by."""

from __future__ import annotations

from chrono_ray.storage.migrations.scripts import run

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run("0005_captures")


def downgrade() -> None:
    raise NotImplementedError("Restore the backup made before the upgrade")

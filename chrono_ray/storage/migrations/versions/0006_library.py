"""What people add to pages: stars, tags, notes, review; searches they keep."""

from __future__ import annotations

from chrono_ray.storage.migrations.scripts import run

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run("0006_library")


def downgrade() -> None:
    raise NotImplementedError("Restore the backup made before the upgrade")

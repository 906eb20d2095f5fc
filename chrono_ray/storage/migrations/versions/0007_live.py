"""Live progress and throughput over time."""

from __future__ import annotations

from chrono_ray.storage.migrations.scripts import run

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run("0007_live")


def downgrade() -> None:
    raise NotImplementedError("Restore the backup made before the upgrade")

"""What lets programs of two versions work on one record."""

from __future__ import annotations

from chrono_ray.storage.migrations.scripts import run

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None
works_with = "0007"


def upgrade() -> None:
    run("0008_rolling")


def downgrade() -> None:
    raise NotImplementedError("Restore the backup made before the upgrade")

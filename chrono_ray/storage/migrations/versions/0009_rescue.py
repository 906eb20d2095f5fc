"""What was lost or held up goes on: holes, lost workers, archives that nobody asks, clocks."""

from __future__ import annotations

from chrono_ray.storage.migrations.scripts import run

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None
works_with = "0007"


def upgrade() -> None:
    run("0009_rescue")


def downgrade() -> None:
    raise NotImplementedError("Restore the backup made before the upgrade")

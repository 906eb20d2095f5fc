"""Projects over HTTP: names are unique for their owner; what an instance keeps to itself."""

from __future__ import annotations

from chrono_ray.storage.migrations.scripts import run

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run("0004_projects")


def downgrade() -> None:
    raise NotImplementedError("Restore the backup made before the upgrade")

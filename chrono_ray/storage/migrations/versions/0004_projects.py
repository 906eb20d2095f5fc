"""Projects over HTTP: names are unique for their owner; what an instance keeps to itself."""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

HERE = Path(__file__).parent


def upgrade() -> None:
    bind = op.get_bind()
    bind.exec_driver_sql("SELECT 1")  # opens the transaction that the script joins
    script = (HERE / "0004_projects.sql").read_text(encoding="utf-8")
    bind.connection.run_async(lambda driver: driver.execute(script))


def downgrade() -> None:
    raise NotImplementedError("Restore the backup made before the upgrade")

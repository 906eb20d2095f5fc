"""What people add to pages: stars, tags, notes, review; searches they keep."""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

HERE = Path(__file__).parent


def upgrade() -> None:
    bind = op.get_bind()
    bind.exec_driver_sql("SELECT 1")  # opens the transaction that the script joins
    script = (HERE / "0006_library.sql").read_text(encoding="utf-8")
    bind.connection.run_async(lambda driver: driver.execute(script))


def downgrade() -> None:
    raise NotImplementedError("Restore the backup made before the upgrade")

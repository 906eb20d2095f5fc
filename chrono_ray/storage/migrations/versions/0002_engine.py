"""The engine: plans, priorities, several archives, tasks, schedules, rebuilds."""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

HERE = Path(__file__).parent


def upgrade() -> None:
    bind = op.get_bind()
    bind.exec_driver_sql("SELECT 1")  # opens the transaction that the scripts join
    for name in ("0002_engine.sql", "0002_functions.sql"):
        script = (HERE / name).read_text(encoding="utf-8")
        bind.connection.run_async(lambda driver, script=script: driver.execute(script))


def downgrade() -> None:
    raise NotImplementedError("Restore the backup made before the upgrade")

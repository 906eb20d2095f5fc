"""A revision that is a script of SQL: through the driver, in the revision's transaction."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from alembic import op

VERSIONS: Final = Path(__file__).parent / "versions"


def run(name: str) -> None:
    """Run `versions/<name>.sql` where the revision stands."""
    bind = op.get_bind()
    bind.exec_driver_sql("SELECT 1")  # opens the transaction that the script joins
    script = (VERSIONS / f"{name}.sql").read_text(encoding="utf-8")
    bind.connection.run_async(lambda driver: driver.execute(script))

"""`ray job submit -- python jobs/export.py --project town --to /data/town --form parquet`.

See `--help` for the arguments and exit codes, chrono_ray/cluster/jobs/export.py for what it does.
"""

from __future__ import annotations

import sys

from chrono_ray.cluster.jobs.export import JOB

if __name__ == "__main__":
    sys.exit(JOB.main())

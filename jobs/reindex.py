"""`ray job submit -- python jobs/reindex.py`.

See `--help` for the exit codes, chrono_ray/cluster/jobs/reindex.py for what it does.
"""

from __future__ import annotations

import sys

from chrono_ray.cluster.jobs.reindex import JOB

if __name__ == "__main__":
    sys.exit(JOB.main())

"""`ray job submit -- python jobs/ingest_warc.py crawls/ --project town`.

See `--help` for the arguments and exit codes, chrono_ray/cluster/jobs/ingest.py for what it does.
"""

from __future__ import annotations

import sys

from chrono_ray.cluster.jobs.ingest import JOB

if __name__ == "__main__":
    sys.exit(JOB.main())

"""`ray job submit -- python jobs/bulk_scrape.py --list domains.txt --from 2001 --to 2005`.

See `--help` for the arguments and exit codes, chrono_ray/cluster/jobs/bulk.py for what it does.
"""

from __future__ import annotations

import sys

from chrono_ray.cluster.jobs.bulk import JOB

if __name__ == "__main__":
    sys.exit(JOB.main())

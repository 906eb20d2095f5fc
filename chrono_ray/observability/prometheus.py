"""A configuration with which a Prometheus on this machine scrapes all there is."""

from __future__ import annotations

from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import orjson

FILE: Final = "prometheus.yml"
EVERY: Final = "10s"
"""As often as Ray asks its processes."""
DROPPED: Final = "otel_scope_.*|SessionName|Version|Component"
"""Labels that Ray puts to every series and that tell nothing: of Ray, or of its session."""


def configuration(api: str, discovery: Path | None) -> str:
    """For an API at this URL, and the file in which a Ray head names what is to be scraped.

    YAML, as JSON is. Alert rules beside the file it is written to are read too.
    """
    address = urlsplit(api)
    record = {
        "job_name": "chrono-record", "scheme": address.scheme,
        "static_configs": [{"targets": [address.netloc]}],
    }  # fmt: skip
    ray = {
        "job_name": "ray", "file_sd_configs": [{"files": [str(discovery)]}],
        "metric_relabel_configs": [{"action": "labeldrop", "regex": DROPPED}],
    }  # fmt: skip
    told = {
        "global": {"scrape_interval": EVERY, "evaluation_interval": EVERY},
        "rule_files": ["alerts*.yml"],
        "scrape_configs": [record, *([ray] if discovery else [])],
    }
    return orjson.dumps(told, option=orjson.OPT_INDENT_2).decode() + "\n"

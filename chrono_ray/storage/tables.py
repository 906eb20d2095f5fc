"""The tables as SQLAlchemy Core sees them, for everything that is not a hot path.

The migrations are the source; a test holds the two together.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    Integer,
    Interval,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

metadata = MetaData()

projects = Table(
    "projects",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", Text),
    Column("weight", Integer),
    Column("created_at", DateTime(timezone=True)),
    Column("owner_id", Integer),
    Column("description", Text),
    Column("version", Integer),
    Column("changed_at", DateTime(timezone=True)),
)

domains = Table(
    "domains",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("project_id", Integer),
    Column("url", Text),
    Column("match", Text),
    Column("created_at", DateTime(timezone=True)),
)

runs = Table(
    "runs",
    metadata,
    Column("id", BigInteger, primary_key=True),
    Column("project_id", Integer),
    Column("domain_id", Integer),
    Column("archive", Text),
    Column("start_ts", Text),
    Column("end_ts", Text),
    Column("class", SmallInteger, key="queue_class"),
    Column("state", Text),
    Column("ready", Boolean),
    Column("floor_key", BigInteger),
    Column("goal", Text),
    Column("together", BigInteger),
    Column("preference", SmallInteger),
    Column("created_at", DateTime(timezone=True)),
    Column("finished_at", DateTime(timezone=True)),
)

schedules = Table(
    "schedules",
    metadata,
    Column("id", BigInteger, primary_key=True),
    Column("domain_id", Integer),
    Column("archives", ARRAY(Text)),
    Column("start_ts", Text),
    Column("end_ts", Text),
    Column("since_last", Boolean),
    Column("overlap", Interval),
    Column("every", Interval),
    Column("next_at", DateTime(timezone=True)),
    Column("class", SmallInteger, key="queue_class"),
    Column("enabled", Boolean),
    Column("last_run", BigInteger),
    Column("created_at", DateTime(timezone=True)),
)

slices = Table(
    "slices",
    metadata,
    Column("id", BigInteger, primary_key=True),
    Column("run_id", BigInteger),
    Column("start_ts", Text),
    Column("end_ts", Text),
    Column("state", Text),
    Column("next_key", Text),
    Column("pages", Integer),
    Column("attempts", Integer),
    Column("reason", Text),
    Column("detail", Text),
)

listing_pages = Table(
    "listing_pages",
    metadata,
    Column("id", BigInteger, primary_key=True),
    Column("slice_id", BigInteger),
    Column("seq", Integer),
    Column("key", Text),
    Column("next_key", Text),
    Column("rows", Integer),
    Column("bad_rows", JSONB),
    Column("raw", LargeBinary),
)

payloads = Table(
    "payloads",
    metadata,
    Column("id", BigInteger, primary_key=True),
    Column("sha256", LargeBinary),
    Column("sha1", Text),
    Column("size", BigInteger),
)

documents = Table(
    "documents",
    metadata,
    Column("id", BigInteger, primary_key=True),
    Column("payload_id", BigInteger),
    Column("extractor", Text),
    Column("charset", Text),
    Column("media_type", Text),
    Column("title", Text),
    Column("text", Text),
    Column("author", Text),
    Column("published", Date),
    Column("language", Text),
    Column("words", Integer),
    Column("description", Text),
    Column("canonical", Text),
    Column("links", JSONB),
    Column("flags", ARRAY(Text)),
    Column("replaced", Integer),
)

pages = Table(
    "pages",
    metadata,
    Column("id", BigInteger, primary_key=True),
    Column("project_id", Integer),
    Column("domain_id", Integer),
    Column("url_id", LargeBinary),
    Column("urlkey", Text),
    Column("url", Text),
    Column("payload_id", BigInteger),
    Column("document_id", BigInteger),
    Column("first_seen", DateTime(timezone=True)),
    Column("last_seen", DateTime(timezone=True)),
    Column("captures", Integer),
    Column("index_error", Text),
)

domain_counters = Table(
    "domain_counters",
    metadata,
    Column("domain_id", Integer, primary_key=True),
    Column("run_id", BigInteger, primary_key=True),
    Column("state", Text, primary_key=True),
    Column("reason", Text, primary_key=True),
    Column("n", BigInteger),
)

tasks = Table(
    "tasks",
    metadata,
    Column("id", BigInteger, primary_key=True),
    Column("kind", Text),
    Column("class", SmallInteger, key="queue_class"),
    Column("project_id", Integer),
    Column("run_id", BigInteger),
    Column("arguments", JSONB),
    Column("state", Text),
    Column("attempts", SmallInteger),
    Column("done", BigInteger),
    Column("total", BigInteger),
    Column("result", JSONB),
    Column("reason", Text),
    Column("detail", Text),
    Column("worker", Text),
    Column("leased_until", DateTime(timezone=True)),
    Column("created_at", DateTime(timezone=True)),
    Column("started_at", DateTime(timezone=True)),
    Column("finished_at", DateTime(timezone=True)),
)

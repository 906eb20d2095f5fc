"""`chrono doctor`: what is wrong with this installation, why, and what to do about it.

::

    finding.py    Finding, Code, Report
    settings.py   what is set                       machine.py   ports, disk, files, memory
    servers.py    PostgreSQL, Redis, Meilisearch,   record.py    the schema and what is in it
                  payloads, archives
    examine.py    all of it, each part within its time (threads.py: also what hangs for ever)

Nothing is started, and nothing is changed but a payload that is written and deleted.
"""

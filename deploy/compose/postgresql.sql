-- Run once, when the data folder is made.
CREATE EXTENSION IF NOT EXISTS pg_stat_statements;

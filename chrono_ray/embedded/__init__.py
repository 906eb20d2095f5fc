"""PostgreSQL and Valkey as child processes, from their wheels."""

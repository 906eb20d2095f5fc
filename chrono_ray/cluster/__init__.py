"""Ray: thin loops around the pipeline. Only this package and jobs/ import ray."""

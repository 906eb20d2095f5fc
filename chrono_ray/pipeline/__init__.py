"""The use cases: plan, discover, scrape, index, control, rescue, verify."""

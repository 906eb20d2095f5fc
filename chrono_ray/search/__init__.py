"""What makes pages findable: one protocol, two indexes."""

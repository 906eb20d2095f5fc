"""Where captures come from: one adapter per dialect behind one protocol."""

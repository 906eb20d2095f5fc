"""Answers that may be forgotten: JSON in Redis, bypassed when Redis is away."""

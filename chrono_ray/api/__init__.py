"""The HTTP API as plain ASGI."""

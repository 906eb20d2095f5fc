"""Bytes become a document, in a child process that may be killed."""

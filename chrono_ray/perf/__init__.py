"""How a running instance performs: what is measured, against which targets, and how it is told.

An instance is measured by what everybody may ask of it over HTTP, and, where its record can be
reached, by its record. What is written for that stands in projects of its own, which are deleted
at the end.
"""

"""Errors, options, one file of evidence, and what a path in evidence may name."""

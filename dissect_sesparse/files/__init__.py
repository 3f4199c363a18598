"""Deleted and changed files of a file system in several states of its disk."""

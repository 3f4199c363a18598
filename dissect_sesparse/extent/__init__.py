"""On-disk structures, the table engine, the one accessor of metadata, and the extents."""

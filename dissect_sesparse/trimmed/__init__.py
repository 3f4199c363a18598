"""What the guest trimmed: unmapped and unreferenced grains, and what their bytes are."""

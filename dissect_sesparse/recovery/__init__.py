"""What is written out: images, maps, manifests, files."""

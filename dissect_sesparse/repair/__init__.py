"""What is read where the file's own metadata is not to be trusted: journal, rebuilt headers and tables."""

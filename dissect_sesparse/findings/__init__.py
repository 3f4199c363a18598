"""What is odd but readable, and what cannot be read."""

"""What can be configured, from every source, and all that can be wrong with it: each fault with its place and remedy."""

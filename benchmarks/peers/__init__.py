"""tokenvalet beside what a user would pick instead, in one run against one server: `make bench-peers`."""

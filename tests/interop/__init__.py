"""tokenvalet against an authorization server and an API that we did not write."""

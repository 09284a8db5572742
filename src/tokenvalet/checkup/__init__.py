"""Looking at a configured client from end to end, for `tokenvalet check` and whoever else explains what is wrong."""

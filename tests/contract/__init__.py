"""What must hold with every HTTP library: one suite, one driver for each, over real sockets."""

"""Tests of the quiet room: generators and plain functions, driven by hand, with no event loop, network or sleep."""

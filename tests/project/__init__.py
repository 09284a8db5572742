"""Tests of the project itself: its shape, its public face, its dependencies, its files."""

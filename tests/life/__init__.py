"""Tests of the token's life: one renewal per key, three ages, outages, clocks, rejections, processes, memory."""

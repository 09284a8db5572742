"""`make bench`: every figure that the documentation quotes, printed again.

Counts are counts. Timings are ratios, or microseconds beside the bound that they are held to; each pair is measured in
turns within one run, since machines are shared and noisy, and the smallest of many rounds counts, which is the one that
noise touched least. The exit code is 1 when a bound is missed.
"""

from __future__ import annotations

import logging
import sys

import adapters
import costs
import counts
import hosted
import instrumented
import renewals
import sharing
import throughput


def main() -> int:
    """Print all figures. Returns the exit code."""
    wanted = set(sys.argv[1:])
    held = True
    # What fails on purpose is counted here, and not told besides.
    logging.getLogger("tokenvalet").addHandler(logging.NullHandler())
    for title, section in (
        ("counts", counts.run),
        ("costs", costs.run),
        ("adapters", adapters.run),
        ("throughput", throughput.run),
        ("telemetry", instrumented.run),
        ("renewals", renewals.run),
        ("stores", sharing.run),
        ("hosts", hosted.run),
    ):
        if wanted and title not in wanted:
            continue
        print(f"\n## {title}\n")
        for line, good in section():
            held = held and good
            print(f"{'ok  ' if good else 'MISS'}  {line}", flush=True)
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())

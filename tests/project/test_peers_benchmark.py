"""The benchmark beside other libraries: its scenarios count what they say, and its table marks what is better."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

from peers.__main__ import table
from peers.adapters import PEERS, Peer
from peers.scenarios import cold, revoked
from peers.server import running


@pytest.mark.parametrize("peer", PEERS[:2], ids=lambda peer: peer.name)
def test_the_scenarios_count_what_tokenvalet_does(peer: Peer) -> None:
    with running() as server:
        assert cold(peer, server) == {"token requests": 1, "failed": 0}
        assert revoked(peer, server) == {"saw a 401": 0, "token requests": 1}


def test_a_cell_is_bold_where_it_is_better_and_nothing_beside_it_is_worse() -> None:
    ours = {"revoked": {"saw a 401": 0, "token requests": 1}, "import": {"ms": 30}}
    other = {"revoked": {"saw a 401": 64, "token requests": 0}, "import": {"ms": 20}}
    written = table({"tokenvalet": ours, "another": other})
    row = next(line for line in written.splitlines() if line.startswith("| another"))
    assert "| 64 | 0 |" in row
    assert "| **20** |" in row
    assert "not measured" in row

"""What others offer for filtered search, each set up as well as we can: one module a library, one process an index."""

from __future__ import annotations

from bench.peers.base import Built, Knobs, Peer, Tuned
from bench.peers.process import NAMES, PeerProcess

__all__ = ["NAMES", "Built", "Knobs", "Peer", "PeerProcess", "Tuned"]

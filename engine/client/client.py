"""All calls as one class."""

from __future__ import annotations

from engine.client.admin import AdminCalls
from engine.client.ingest import IngestCalls
from engine.client.retrieval import RetrievalCalls


class RetrievalClient(RetrievalCalls, IngestCalls, AdminCalls):
    """A connection to a server, with the calls of all its services.

    Args:
        target: host:port.
        timeout_s: the deadline of a call that names none.
        max_message_bytes: of a reply; the server publishes its own limit for requests.
    """

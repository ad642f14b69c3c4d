"""The client a ranking service uses: numpy in, numpy out, errors as the engine's own classes.

Imports gRPC, protobuf and NumPy and nothing else of weight. One client is safe to share between threads.
"""

from __future__ import annotations

from engine.client.client import RetrievalClient
from engine.client.results import (
    BatchResult,
    CollectionInfo,
    DeleteResult,
    ItemRefusal,
    OperationStatus,
    UpdateResult,
    UpsertResult,
    VersionStatus,
)
from engine.client.retrieval import SimilarTo

__all__ = [
    "BatchResult",
    "CollectionInfo",
    "DeleteResult",
    "ItemRefusal",
    "OperationStatus",
    "RetrievalClient",
    "SimilarTo",
    "UpdateResult",
    "UpsertResult",
    "VersionStatus",
]

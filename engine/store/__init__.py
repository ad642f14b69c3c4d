"""Collections on disk. The only home of sqlite3."""

from engine.store.collection_store import CollectionStore, version_folder
from engine.store.folders import delete_collection_folder, list_collections, remove_leftovers
from engine.store.glance import glance
from engine.store.lock import DirectoryLock
from engine.store.segments import VectorSegments
from engine.store.writes import (
    Change,
    ChangeKind,
    DeleteOp,
    LiveRow,
    LoggedChange,
    UpsertOp,
    WriteOutcome,
    WriteRequest,
)
from engine.store.writing import StoreLimits

__all__ = [
    "Change",
    "ChangeKind",
    "CollectionStore",
    "DeleteOp",
    "DirectoryLock",
    "LiveRow",
    "LoggedChange",
    "StoreLimits",
    "UpsertOp",
    "VectorSegments",
    "WriteOutcome",
    "WriteRequest",
    "delete_collection_folder",
    "glance",
    "list_collections",
    "remove_leftovers",
    "version_folder",
]

"""Collections on disk. The only home of sqlite3."""

from engine.store.collection_store import CollectionStore, version_folder
from engine.store.folders import delete_collection_folder, list_collections, remove_leftovers
from engine.store.glance import glance
from engine.store.lock import DirectoryLock
from engine.store.segments import VectorSegments
from engine.store.snapshots import Manifest, list_snapshots, read_manifest, verify_snapshot
from engine.store.writes import (
    Change,
    ChangeKind,
    Conflict,
    DeleteOp,
    LiveRow,
    LoggedChange,
    UpdateOp,
    UpsertOp,
    WriteOp,
    WriteOutcome,
    WriteRequest,
)
from engine.store.writing import StoreLimits

__all__ = [
    "Change",
    "ChangeKind",
    "CollectionStore",
    "Conflict",
    "DeleteOp",
    "DirectoryLock",
    "LiveRow",
    "LoggedChange",
    "Manifest",
    "StoreLimits",
    "UpdateOp",
    "UpsertOp",
    "VectorSegments",
    "WriteOp",
    "WriteOutcome",
    "WriteRequest",
    "delete_collection_folder",
    "glance",
    "list_collections",
    "list_snapshots",
    "read_manifest",
    "remove_leftovers",
    "verify_snapshot",
    "version_folder",
]

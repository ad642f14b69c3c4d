"""Collections on disk. The only home of sqlite3."""

from engine.store.collection_store import CollectionStore, version_folder
from engine.store.damage import Fault, FaultKind
from engine.store.folders import delete_collection_folder, list_collections, remove_leftovers, withdraw
from engine.store.glance import glance
from engine.store.lock import DirectoryLock
from engine.store.repairing import Repair, can_repair, remove, repair_collection
from engine.store.segments import VectorSegments
from engine.store.snapshots import Manifest, list_snapshots, read_manifest, verify_snapshot
from engine.store.verdict import Verdict
from engine.store.verifying import leftovers, verify_collection, verify_snapshots
from engine.store.writes import (
    Change,
    ChangeKind,
    Conflict,
    DeleteOp,
    LiveRow,
    LoggedChange,
    UpdateOp,
    UpsertColumns,
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
    "Fault",
    "FaultKind",
    "LiveRow",
    "LoggedChange",
    "Manifest",
    "Repair",
    "StoreLimits",
    "UpdateOp",
    "UpsertColumns",
    "UpsertOp",
    "VectorSegments",
    "Verdict",
    "WriteOp",
    "WriteOutcome",
    "WriteRequest",
    "can_repair",
    "delete_collection_folder",
    "glance",
    "leftovers",
    "list_collections",
    "list_snapshots",
    "read_manifest",
    "remove",
    "remove_leftovers",
    "repair_collection",
    "verify_collection",
    "verify_snapshot",
    "verify_snapshots",
    "version_folder",
    "withdraw",
]

"""Destinations that are files in a folder or in S3: each is put once, whole, and only if there is none of its name.

`store` describes what such a store can do, `file_names` how a file is named by the messages in it, and `placing` why
each message is in one file, whatever is sent again.
"""

from trackcore_objects.archive import ArchiveSender
from trackcore_objects.file_names import FileName, digest_of, name_for, parse_name
from trackcore_objects.folder import FolderStore
from trackcore_objects.location import (
    check_endpoint,
    check_location,
    open_store,
    place_of_location,
    shown_location,
)
from trackcore_objects.placing import files_in, missing_messages, partition_of
from trackcore_objects.store import ObjectStore, StoredFile, StoreUnavailable
from trackcore_objects.within import StoreWithin

__all__ = [
    "ArchiveSender",
    "FileName",
    "FolderStore",
    "ObjectStore",
    "StoreUnavailable",
    "StoreWithin",
    "StoredFile",
    "check_endpoint",
    "check_location",
    "digest_of",
    "files_in",
    "missing_messages",
    "name_for",
    "open_store",
    "parse_name",
    "partition_of",
    "place_of_location",
    "shown_location",
]

"""The warehouse: messages as rows of tables, in the layout of Segment.  No database is touched here.

`rows` returns the rows of a message, `Schema.merge` what they need in the database and the values to store.  Adapters
make the changes, in their order, and store the values.

>>> from trackcore.warehouse import Schema, read_message, rows
>>> message = read_message(
...     b'{"type": "track", "messageId": "m1", "event": "Order Paid", "properties": {"total": 14.5}}'
... )
>>> [row.table for row in rows(message)]
['tracks', 'order_paid']
>>> merged = Schema().merge(rows(message)[1])
>>> merged.values["total"], merged.values["event_text"]
(14.5, 'Order Paid')
"""

from trackcore.warehouse.columns import (
    CONTEXT,
    DECLARED_CONTEXT,
    LOADED_AT,
    PROFILE_TABLES,
    STAMPS,
    known_columns,
    reserved_columns,
    standard_columns,
)
from trackcore.warehouse.inspection import OldTablesRemain, TableInfo, WarehouseReader
from trackcore.warehouse.names import DISCARDS_TABLE, MAX_NAME, STANDARD_TABLES, event_table, schema_name, slug
from trackcore.warehouse.options import (
    DISCARD,
    WIDEN,
    WarehouseOptions,
    as_names,
    check_declared,
    check_on_conflict,
)
from trackcore.warehouse.persons import id_as_json, ids_by_column, is_personal, user_ids
from trackcore.warehouse.profiles import Profile, Stamp, decode_stamps, encode_stamps
from trackcore.warehouse.rows import Discard, DiscardReason, Row, read_rows, rows
from trackcore.warehouse.schema import AddColumn, Change, CreateTable, Merged, Schema, WidenColumn
from trackcore.warehouse.values import ColumnType, Digits, Scalar, Value, read_message, storable, text_of, widen

__all__ = [
    "CONTEXT",
    "DECLARED_CONTEXT",
    "DISCARD",
    "DISCARDS_TABLE",
    "LOADED_AT",
    "MAX_NAME",
    "PROFILE_TABLES",
    "STAMPS",
    "STANDARD_TABLES",
    "WIDEN",
    "AddColumn",
    "Change",
    "ColumnType",
    "CreateTable",
    "Digits",
    "Discard",
    "DiscardReason",
    "Merged",
    "OldTablesRemain",
    "Profile",
    "Row",
    "Scalar",
    "Schema",
    "Stamp",
    "TableInfo",
    "Value",
    "WarehouseOptions",
    "WarehouseReader",
    "WidenColumn",
    "as_names",
    "check_declared",
    "check_on_conflict",
    "decode_stamps",
    "encode_stamps",
    "event_table",
    "id_as_json",
    "ids_by_column",
    "is_personal",
    "known_columns",
    "read_message",
    "read_rows",
    "reserved_columns",
    "rows",
    "schema_name",
    "slug",
    "standard_columns",
    "storable",
    "text_of",
    "user_ids",
    "widen",
]

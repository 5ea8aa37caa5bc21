"""Warehouses made by DuckDB, in the layout of Segment: Parquet files in a folder or in S3, and a database in a file.

It is `trackcore.warehouse` that decides which rows a message has; this package writes the files and the tables.
"""

from trackcore_duckdb.database import DatabaseSender
from trackcore_duckdb.database_reader import DatabaseReader
from trackcore_duckdb.database_rebuild import DatabaseRebuild
from trackcore_duckdb.parquet import ParquetSender
from trackcore_duckdb.parquet_reader import ParquetReader
from trackcore_duckdb.parquet_rebuild import ParquetRebuild

__all__ = [
    "DatabaseReader",
    "DatabaseRebuild",
    "DatabaseSender",
    "ParquetReader",
    "ParquetRebuild",
    "ParquetSender",
]

"""A rebuild: fresh tables are filled beside those in use, and take their place in one transaction.

The fresh tables of a source are in a schema of their own, `website__new`; no slug has two underscores in a row.  At the
end the rows of the sources are locked, so that no batch is stored while the last messages are loaded; then
the schemas are renamed.  The earlier tables stay, in `website__old`: a rebuild deletes nothing, and refuses to begin
while it would have to.  Privileges on the earlier tables are granted on the fresh ones; a view goes on reading the
earlier ones, since PostgreSQL binds it to tables, not to names.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import attrs
import psycopg
from psycopg import Connection

from trackcore.warehouse import OldTablesRemain
from trackcore_postgres.catalog import has_schema
from trackcore_postgres.connecting import connect, make_bookkeeping, sentence_of
from trackcore_postgres.errors import WarehouseUnavailable
from trackcore_postgres.statements import BOOKKEEPING, NEW, OLD, beside, quoted
from trackcore_postgres.warehouse import PostgresWarehouse

_GRANTS = b"""
SELECT c.relname, g.privilege_type, g.grantee::regrole::text, g.grantee = 0
FROM pg_catalog.pg_class c CROSS JOIN LATERAL aclexplode(c.relacl) g
WHERE c.relnamespace = (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = %s) AND c.relkind IN ('r', 'p')
    AND g.grantee <> c.relowner
"""
_SCHEMA_GRANTS = b"""
SELECT g.privilege_type, g.grantee::regrole::text, g.grantee = 0
FROM pg_catalog.pg_namespace n CROSS JOIN LATERAL aclexplode(n.nspacl) g
WHERE n.nspname = %s AND g.grantee <> n.nspowner
"""


@attrs.define
class Rebuild:
    """A rebuild of a warehouse.  `target` loads the messages; only `begin` and `swap` know that it is one."""

    live: PostgresWarehouse
    target: PostgresWarehouse = attrs.field(init=False)

    @target.default
    def _target(self) -> PostgresWarehouse:
        return attrs.evolve(self.live, destination=f"{self.live.destination} (rebuild)", suffix=NEW)

    def begin(self, sources: Sequence[str]) -> None:
        """Drop the fresh tables of a rebuild that was interrupted.

        Raises:
            OldTablesRemain: the tables from before an earlier rebuild are there.
            WarehouseUnavailable: the database cannot be used now.
        """
        try:
            connection = self.target.connection()
            make_bookkeeping(connection)
            owned = {self.live.schema_of(source) for source in sources} | self._schemas_of(connection)
            if old := sorted(name for name in map(_old, owned) if has_schema(connection, name)):
                raise OldTablesRemain(removal=" ".join(f"DROP SCHEMA {quoted(name)} CASCADE;" for name in old))
            with connection.transaction():
                for name in map(_new, sorted(owned)):
                    connection.execute(f"DROP SCHEMA IF EXISTS {quoted(name)} CASCADE".encode())
                    connection.execute(_sources("DELETE FROM {} WHERE schema_name = %s"), [name])
        except psycopg.Error as error:
            raise WarehouseUnavailable(detail=sentence_of(error)) from None

    def close(self) -> None:
        """Close the connection of the target."""
        self.target.close()

    def swap(self, load_rest: Callable[[], None]) -> Sequence[str]:
        """Load the last messages while nothing else is stored, and let the fresh tables take their place.

        Returns the schemas that were rebuilt.  Raises `WarehouseUnavailable`; then everything is as it was.
        """
        try:
            with connect(self.live.settings) as connection, connection.transaction():
                connection.execute(b"SET LOCAL lock_timeout = '60s'")
                connection.execute(_sources("SELECT 1 FROM {} WHERE right(schema_name, 5) <> %s FOR UPDATE"), [NEW])
                load_rest()
                schemas = sorted(name for name in self._schemas_of(connection) if has_schema(connection, _new(name)))
                for name in schemas:
                    _swap(connection, name)
                return schemas
        except psycopg.Error as error:
            raise WarehouseUnavailable(detail=sentence_of(error)) from None

    def _schemas_of(self, connection: Connection[Any]) -> set[str]:
        """Return the schemas of the sources that the database knows and that are of this warehouse."""
        found = connection.execute(_sources("SELECT schema_name, source FROM {}")).fetchall()
        return {self.live.schema_of(source) for name, source in found if name in self._names_of(source)}

    def _names_of(self, source: str) -> set[str]:
        return {self.live.schema_of(source), self.target.schema_of(source)}


def _swap(connection: Connection[Any], name: str) -> None:
    new, old = _new(name), _old(name)
    if has_schema(connection, name):
        _copy_grants(connection, name, new)
        connection.execute(f"ALTER SCHEMA {quoted(name)} RENAME TO {quoted(old)}".encode())
    connection.execute(f"ALTER SCHEMA {quoted(new)} RENAME TO {quoted(name)}".encode())
    insert = (
        "INSERT INTO {} (schema_name, source) SELECT %s, source FROM {} WHERE schema_name = %s ON CONFLICT DO NOTHING"
    )
    connection.execute(_sources(insert), [name, new])
    connection.execute(_sources("UPDATE {} SET generation = generation + 1 WHERE schema_name = %s"), [name])
    connection.execute(_sources("DELETE FROM {} WHERE schema_name = %s"), [new])


def _copy_grants(connection: Connection[Any], before: str, after: str) -> None:
    for privilege, role, is_public in connection.execute(_SCHEMA_GRANTS, [before]).fetchall():
        statement = f"GRANT {privilege} ON SCHEMA {quoted(after)} TO {'PUBLIC' if is_public else role}"
        connection.execute(statement.encode())
    query = b"SELECT tablename FROM pg_catalog.pg_tables WHERE schemaname = %s"
    tables = {table for (table,) in connection.execute(query, [after])}
    for table, privilege, role, is_public in connection.execute(_GRANTS, [before]).fetchall():
        if table in tables:
            to = "PUBLIC" if is_public else role
            statement = f"GRANT {privilege} ON {quoted(after)}.{quoted(table)} TO {to}"
            connection.execute(statement.encode())


def _sources(statement: str) -> bytes:
    return statement.replace("{}", f"{quoted(BOOKKEEPING)}.sources").encode()


def _new(schema: str) -> str:
    return beside(schema, NEW)


def _old(schema: str) -> str:
    return beside(schema, OLD)

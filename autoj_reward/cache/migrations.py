# SPDX-License-Identifier: Apache-2.0
"""Schema migrations of the cache file. A released step never changes; new ones are added."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

APPLICATION_ID = 0x6A756467
"""`judg`: marks an SQLite file as a cache of this package."""

PAGE_BYTES = 8192
"""Records of 2 kB would fill pages of 4 kB only by half."""

MIGRATIONS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        "0001_judgments",
        (
            # `number` is the first 8 bytes of a hash of the rest, so that files merge without renumbering.
            """CREATE TABLE setups (
                number INTEGER PRIMARY KEY,
                engine TEXT NOT NULL,
                wrapper BLOB NOT NULL,
                settings BLOB NOT NULL)""",
            # Rows are appended in the order they come; the keys' index is small and random.
            """CREATE TABLE judgments (
                id INTEGER PRIMARY KEY,
                key BLOB NOT NULL UNIQUE,
                setup INTEGER NOT NULL,
                prefill BLOB NOT NULL,
                draw INTEGER NOT NULL,
                created INTEGER NOT NULL,
                checksum INTEGER NOT NULL,
                value BLOB NOT NULL)""",
            """CREATE TABLE engines (
                fingerprint TEXT NOT NULL,
                kind TEXT NOT NULL,
                model TEXT NOT NULL,
                version TEXT NOT NULL,
                first_seen INTEGER NOT NULL,
                PRIMARY KEY (fingerprint, kind, model, version)) WITHOUT ROWID""",
            """CREATE TABLE leases (
                key BLOB PRIMARY KEY,
                owner TEXT NOT NULL,
                expires REAL NOT NULL) WITHOUT ROWID""",
        ),
    ),
)


def newest() -> int:
    """The current schema version."""
    return len(MIGRATIONS)


def migrate(connection: sqlite3.Connection, run: Callable[[str], tuple[int, ...]]) -> None:
    """Bring a file to the newest schema in one transaction; safe if several processes try at once.

    Args:
        connection: Outside any transaction.
        run: Runs a statement, waiting for other processes; returns its first row.
    """
    if run("PRAGMA user_version")[0] == newest():
        return
    run("BEGIN IMMEDIATE")
    try:
        # Another process may have done it while this one waited.
        (version,) = run("PRAGMA user_version")
        run("CREATE TABLE IF NOT EXISTS migrations (name TEXT PRIMARY KEY, applied TEXT NOT NULL)")
        for name, statements in MIGRATIONS[version:]:
            for statement in statements:
                connection.execute(statement)
            connection.execute("INSERT INTO migrations VALUES (?, datetime('now'))", (name,))
        connection.execute(f"PRAGMA user_version = {newest()}")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        run("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise

#!/usr/bin/env python3
"""Counts and hashes every user table of a SQLite file, and compares with a manifest.

    recount.py DB MANIFEST --write      write what DB holds to MANIFEST
    recount.py DB MANIFEST              compare DB with MANIFEST
    recount.py --export EXPORT DB       find every key of the flat export EXPORT again in DB

It is a second opinion: it needs Python's standard library only and shares no code with the program it checks.
DB is opened read-only. Exit status: 0 equal or written, 1 different, 2 wrong use or unreadable input.
"""

import argparse
import collections
import contextlib
import hashlib
import json
import pathlib
import sqlite3
import struct
import sys

FORMAT = 1
# Tables of SQLite itself and of the program's own bookkeeping.
SKIPPED_PREFIXES = ("sqlite_", "_whimbrel_")
# A larger manifest is no longer pleasant to keep in a repository: then buckets stand for the rows.
MANIFEST_BYTES_MAX = 600_000
BUCKET_COUNT = 64
ROW_HASH_DIGITS = 16
# So many differing rows, keys or buckets are named; the rest are counted.
NAMED_MAX = 5


class Text(bytes):
    """TEXT as its stored bytes, which need not be valid UTF-8, and apart from BLOB, which stays `bytes`."""


def encode(value):
    """A value as tag, length (8 bytes, big endian) and payload, so that no two values share an encoding."""
    if value is None:
        tag, payload = b"n", b""
    elif isinstance(value, int):
        tag, payload = b"i", str(value).encode("ascii")
    elif isinstance(value, float):
        tag, payload = b"r", struct.pack(">d", value)
    elif isinstance(value, Text):
        tag, payload = b"t", value
    else:
        tag, payload = b"b", value
    return tag + struct.pack(">Q", len(payload)) + payload


def row_hash(row):
    return hashlib.sha256(b"".join(map(encode, row))).hexdigest()


def rows_hash(hashes):
    """One hash over a sorted list of row hashes: equal for equal multisets, whatever the order of the rows."""
    return hashlib.sha256("".join(hashes).encode("ascii")).hexdigest()


def quoted(name):
    return '"' + name.replace('"', '""') + '"'


def decoded(text):
    return bytes(text).decode("utf-8", "surrogateescape")


def open_database(path):
    if not pathlib.Path(path).is_file():
        raise OSError(f"no such file: `{path}`")
    db = sqlite3.connect(pathlib.Path(path).resolve().as_uri() + "?mode=ro", uri=True)
    db.text_factory = Text
    return db


def user_tables(db):
    names = (decoded(name) for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'"))
    return sorted(name for name in names if not name.lower().startswith(SKIPPED_PREFIXES))


def table_columns(db, table):
    """Columns in order, with generated ones; `pk` is the place in the primary key from 1, or 0."""
    return [
        {"name": decoded(name), "type": decoded(declared), "notnull": notnull, "pk": pk}
        for _, name, declared, notnull, _, pk, _ in db.execute(f"PRAGMA table_xinfo({quoted(table)})")
    ]


def read_rows(db, table, columns):
    names = ", ".join(quoted(column["name"]) for column in columns)
    return db.execute(f"SELECT {names} FROM {quoted(table)}")


def count_table(db, table):
    columns = table_columns(db, table)
    hashes = sorted(row_hash(row) for row in read_rows(db, table, columns))
    return {
        "columns": columns,
        "row_count": len(hashes),
        "rows_sha256": rows_hash(hashes),
        "hashes": hashes,
    }


def with_row_hashes(counted):
    short = sorted(value[:ROW_HASH_DIGITS] for value in counted["hashes"])
    return {**without_hashes(counted), "row_hashes": short}


def with_buckets(counted):
    buckets = [[] for _ in range(BUCKET_COUNT)]
    for value in counted["hashes"]:
        buckets[int(value[:8], 16) % BUCKET_COUNT].append(value)
    return {**without_hashes(counted), "bucket_hashes": [rows_hash(bucket)[:ROW_HASH_DIGITS] for bucket in buckets]}


def without_hashes(counted):
    return {name: value for name, value in counted.items() if name != "hashes"}


def manifest_text(tables):
    """The manifest with a hash for each row, or with buckets where that would be too large."""
    for form in (with_row_hashes, with_buckets):
        manifest = {"format": FORMAT, "tables": {table: form(counted) for table, counted in tables.items()}}
        text = json.dumps(manifest, sort_keys=True, indent=1) + "\n"
        if len(text) <= MANIFEST_BYTES_MAX:
            break
    return text


def some(values):
    values = list(values)
    more = f" and {len(values) - NAMED_MAX} more" if len(values) > NAMED_MAX else ""
    return ", ".join(f"`{value}`" for value in values[:NAMED_MAX]) + more


def column_differences(table, expected, found):
    expected_names = [column["name"] for column in expected]
    found_names = [column["name"] for column in found]
    for name in expected_names:
        if name not in found_names:
            yield f"table {table!r}: column {name!r} is missing"
    for name in found_names:
        if name not in expected_names:
            yield f"table {table!r}: column {name!r} is not in the manifest"
    if sorted(expected_names) == sorted(found_names) and expected_names != found_names:
        yield f"table {table!r}: the columns stand in another order: {found_names}, not {expected_names}"
    by_name = {column["name"]: column for column in found}
    for column in expected:
        other = by_name.get(column["name"], column)
        for part in ("type", "notnull", "pk"):
            if column[part] != other[part]:
                yield f"table {table!r}: column {column['name']!r}: {part} is {other[part]!r}, not {column[part]!r}"


def row_differences(db, table, expected, counted):
    if expected["row_count"] != counted["row_count"]:
        yield f"table {table!r}: {counted['row_count']} rows, not {expected['row_count']}"
    if expected["rows_sha256"] == counted["rows_sha256"]:
        return
    if "row_hashes" in expected:
        then = collections.Counter(expected["row_hashes"])
        now = collections.Counter(with_row_hashes(counted)["row_hashes"])
        gone, new = sorted((then - now).elements()), sorted((now - then).elements())
        if gone:
            yield f"table {table!r}: {len(gone)} rows of the manifest are not here: {some(gone)}"
        if new:
            yield f"table {table!r}: {len(new)} rows here are not in the manifest: {some(named_rows(db, table, counted, new))}"
        if not gone and not new:
            yield f"table {table!r}: the rows differ past the first {ROW_HASH_DIGITS} digits of their hashes"
    else:
        pairs = zip(expected["bucket_hashes"], with_buckets(counted)["bucket_hashes"])
        differing = [number for number, (then, now) in enumerate(pairs) if then != now]
        yield f"table {table!r}: the rows differ in {len(differing)} of {BUCKET_COUNT} buckets: {some(differing)}"


def named_rows(db, table, counted, short_hashes):
    """Each of the rows by its `_key` where the table has one, and by its hash."""
    wanted, columns = set(short_hashes), counted["columns"]
    names = [column["name"] for column in columns]
    found = set()
    for row in read_rows(db, table, columns):
        short = row_hash(row)[:ROW_HASH_DIGITS]
        if short in wanted:
            key = row[names.index("_key")] if "_key" in names else None
            found.add(f"{short} {decoded(key)!r}" if isinstance(key, Text) else short)
    return sorted(found)


def compare(db, manifest, tables):
    expected = manifest["tables"]
    for table in sorted(expected.keys() - tables.keys()):
        yield f"table {table!r} is missing ({expected[table]['row_count']} rows in the manifest)"
    for table in sorted(tables.keys() - expected.keys()):
        yield f"table {table!r} is not in the manifest ({tables[table]['row_count']} rows)"
    for table in sorted(expected.keys() & tables.keys()):
        yield from column_differences(table, expected[table]["columns"], tables[table]["columns"])
        yield from row_differences(db, table, expected[table], tables[table])


def load_export(path):
    """Keys of a flat export as UTF-8, with lone surrogates as they are. A key given twice would hide an entry."""
    def no_duplicates(pairs):
        if len(dict(pairs)) != len(pairs):
            twice = [key for key, count in collections.Counter(key for key, _ in pairs).items() if count > 1]
            raise ValueError(f"keys given more than once in the export: {twice[:NAMED_MAX]}")
        return dict(pairs)

    with open(path, encoding="utf-8") as file:
        export = json.load(file, object_pairs_hook=no_duplicates)
    if not isinstance(export, dict) or not all(isinstance(value, str) for value in export.values()):
        raise ValueError("the export is not one flat object of text")
    return [key.encode("utf-8", "surrogatepass") for key in export]


def find_keys(db, export_keys):
    """Yields the differences between the export's keys and the distinct `_key`s of all tables, each table for itself."""
    places = collections.defaultdict(list)
    for table in user_tables(db):
        if "_key" not in [column["name"] for column in table_columns(db, table)]:
            print(f"{table}: no column `_key`")
            continue
        # Distinct here, not in SQL: the column's collation might hold two keys for equal.
        keys = [key for (key,) in db.execute(f"SELECT \"_key\" FROM {quoted(table)}")]
        distinct = {bytes(key) for key in keys if isinstance(key, Text)}
        print(f"{table}: {len(keys)} rows, {len(distinct)} distinct keys")
        other = sum(not isinstance(key, Text) for key in keys)
        if other:
            yield f"table {table!r}: {other} rows whose `_key` is not text"
        for key in distinct:
            places[key].append(table)
    wanted = set(export_keys)
    missing, extra = sorted(wanted - places.keys()), sorted(places.keys() - wanted)
    twice = sorted(key for key, tables in places.items() if len(tables) > 1)
    print(f"export: {len(wanted)} keys; database: {len(places)} distinct keys, {len(wanted & places.keys())} of them in the export")
    if missing:
        yield f"{len(missing)} keys of the export are in no table: {some(repr(decoded(key)) for key in missing)}"
    if extra:
        yield f"{len(extra)} keys are in a table and not in the export: {some(repr(decoded(key)) for key in extra)}"
    if twice:
        yield f"{len(twice)} keys are in more than one table: {some(f'{decoded(key)!r} {places[key]}' for key in twice)}"


def report(differences):
    differences = list(differences)
    for difference in differences:
        print(difference)
    print(f"{len(differences)} differences" if differences else "equal")
    return 1 if differences else 0


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("db", metavar="DB")
    parser.add_argument("manifest", metavar="MANIFEST", nargs="?")
    parser.add_argument("--write", action="store_true", help="write MANIFEST")
    parser.add_argument("--export", metavar="EXPORT", help="look for the keys of this flat export")
    given = parser.parse_args()
    if (given.export is None) == (given.manifest is None):
        parser.error("give either MANIFEST or --export EXPORT")
    if given.export and given.write:
        parser.error("--write goes with MANIFEST")
    return given


def run(given):
    with contextlib.closing(open_database(given.db)) as db:
        # One read transaction, so that every statement sees the same state.
        db.execute("BEGIN")
        if given.export:
            return report(find_keys(db, load_export(given.export)))
        tables = {table: count_table(db, table) for table in user_tables(db)}
        for table, counted in tables.items():
            print(f"{table}: {counted['row_count']} rows, {len(counted['columns'])} columns")
        if given.write:
            pathlib.Path(given.manifest).write_text(manifest_text(tables), encoding="utf-8")
            return 0
        manifest = json.loads(pathlib.Path(given.manifest).read_text(encoding="utf-8"))
        if manifest.get("format") != FORMAT:
            raise ValueError(f"the manifest has format {manifest.get('format')!r}, this program reads {FORMAT}")
        return report(compare(db, manifest, tables))


def main():
    # Names may hold bytes that are no UTF-8; they are shown as escapes.
    sys.stdout.reconfigure(errors="backslashreplace")
    try:
        return run(arguments())
    except (OSError, ValueError, KeyError, sqlite3.Error) as error:
        print(f"recount.py: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())

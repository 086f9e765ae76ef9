#!/usr/bin/env python3
"""Compare every value of a flat localStorage export with what stands in the database, without whimbrel.

    revalue.py EXPORT DB

Standard library only. Each record's `_key` names an entry of the export; the entry's JSON is read here with exact numbers and
compared, member by member, with the row's columns (or with `_whimbrel_rest`, where columns cannot hold a name). Ends with 1 and
the first differences if a value differs, with 0 and a count otherwise.
"""
import json
import sqlite3
import sys
from decimal import Decimal

SHOWN_MAX = 20
# Columns of the connector; a member of one of these names stands elsewhere.
OURS = ("_key", "_id", "_value", "_value_text", "_whimbrel_rest")


def exact(text):
    return json.loads(text, parse_float=Decimal, parse_int=Decimal)


def same(member, stored):
    """Whether a column's value is the member: as SQLite keeps it, as JSON text, or as the digits of an exact number."""
    if stored is None or member is None:
        return stored is None and member is None or stored == "null" and member is None
    if isinstance(member, bool):
        return stored in (int(member), "true" if member else "false")
    if isinstance(member, Decimal):
        if isinstance(stored, (int, float)):
            return Decimal(repr(stored)) == member
        try:
            return Decimal(stored) == member
        except ArithmeticError:
            return False
    if isinstance(member, str) and stored == member:
        return True
    if not isinstance(stored, str):
        return False
    try:
        return exact(stored) == member
    except ValueError:
        return False


def record_of(entry, row):
    """The part of an entry that a row stands for, as JSON with exact numbers."""
    try:
        value = exact(entry)
    except ValueError:
        return entry
    if row["_key"].endswith(row["_id"]) and row["_key"] != row["_id"] and row["_key"][-len(row["_id"]) - 1] in ":/":
        return value
    return value[int(row["_id"])] if isinstance(value, list) else value[row["_id"]]


def differences(row, export):
    entry = export[row["_key"]]
    if "value_text" in row:
        if (row["value_text"] if row["value_json"] is None else row["value_json"]) != entry:
            yield "the value"
        return
    record = record_of(entry, row)
    if isinstance(record, dict) and row.get("_value") is None:
        rest = exact(row["_whimbrel_rest"]) if row.get("_whimbrel_rest") else {}
        for name, member in record.items():
            # A member that is called as a column of ours has a `_` more.
            for stored_name in (name + "_", name):
                if stored_name in row and not (stored_name == name and name in OURS):
                    if not same(member, row[stored_name]):
                        yield f"the field {name!r}"
                    break
                if stored_name in rest:
                    if rest[stored_name] != member and not same(member, rest[stored_name]):
                        yield f"the field {name!r} in the rest"
                    break
            else:
                yield f"the field {name!r}, which has no column"
    else:
        stored = row.get("_value") if row.get("_value") is not None else row.get("_value_text")
        if not same(record, stored):
            yield "the value"


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    with open(sys.argv[1], encoding="utf-8") as file:
        export = json.load(file)
    db = sqlite3.connect(f"file:{sys.argv[2]}?mode=ro", uri=True)
    db.row_factory = sqlite3.Row
    tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
    found, rows = [], 0
    for table in tables:
        if table.startswith(("sqlite_", "_whimbrel_")):
            continue
        for stored in db.execute('SELECT * FROM "' + table.replace('"', '""') + '"'):
            row = dict(stored)
            rows += 1
            found.extend(f"{table}, {row['_key']!r}, {row.get('_id')!r}: {what}" for what in differences(row, export))
    print("\n".join(found[:SHOWN_MAX]) or f"every value of {rows} rows is that of the export")
    if len(found) > SHOWN_MAX:
        print(f"and {len(found) - SHOWN_MAX} more")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()

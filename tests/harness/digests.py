"""A second implementation of host/docs/digest.md, written after that page and with nothing but Python's own library.

`digests.py vectors FILE` computes every vector of tests/fixtures/digest-vectors.json anew and says what differs.
`digests.py table DATABASE TABLE RECIPE` reads a whole table of an SQLite file and prints count, sum, xor and root as JSON; RECIPE
is JSON as in the vectors (fields with their types, key, losses). `digests.py lines FILE RECIPE` does the same for a file with one
JSON object a line. Not here: anything that whimbrel's own code has computed.
"""

import base64
import json
import re
import sqlite3
import struct
import sys

RECORD_HASH_KEY = b"whimbrel record digest version 1"
KEY_HASH_KEY = b"whimbrel digest of key version 1"
BUCKETS = 4096

# ---- BLAKE3, after its specification (https://github.com/BLAKE3-team/BLAKE3-specs), chapter 2 ----

IV = (0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19)
PERMUTATION = (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)
CHUNK_START, CHUNK_END, PARENT, ROOT, KEYED_HASH = 1, 2, 4, 8, 16
CHUNK_BYTES, BLOCK_BYTES = 1024, 64
# Columns of the state, then its diagonals; each takes the next two words of the block.
MIXED = (
    (0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15),
    (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14),
)


def round_orders():
    """For each of the seven rounds the order in which the words of the block are taken."""
    orders, order = [], tuple(range(16))
    for _ in range(7):
        orders.append(order)
        order = tuple(order[place] for place in PERMUTATION)
    return orders


ROUND_ORDERS = round_orders()


def compress(chaining, block, counter, block_len, flags):
    """The first eight words of the compressed state: a chaining value, or the first 32 octets of a root."""
    words = struct.unpack("<16I", block)
    state = [*chaining, *IV[:4], counter & 0xFFFFFFFF, counter >> 32, block_len, flags]
    for order in ROUND_ORDERS:
        for step, (at_a, at_b, at_c, at_d) in enumerate(MIXED):
            a, b, c, d = state[at_a], state[at_b], state[at_c], state[at_d]
            a = (a + b + words[order[2 * step]]) & 0xFFFFFFFF
            d ^= a
            d = (d >> 16 | d << 16) & 0xFFFFFFFF
            c = (c + d) & 0xFFFFFFFF
            b ^= c
            b = (b >> 12 | b << 20) & 0xFFFFFFFF
            a = (a + b + words[order[2 * step + 1]]) & 0xFFFFFFFF
            d ^= a
            d = (d >> 8 | d << 24) & 0xFFFFFFFF
            c = (c + d) & 0xFFFFFFFF
            b ^= c
            b = (b >> 7 | b << 25) & 0xFFFFFFFF
            state[at_a], state[at_b], state[at_c], state[at_d] = a, b, c, d
    return [state[place] ^ state[place + 8] for place in range(8)]


def chunk_node(octets, counter, key, flags):
    """What is left to compress of a chunk once only its last block is missing."""
    chaining = key
    starts = range(0, max(len(octets), 1), BLOCK_BYTES)
    for start in starts:
        block = octets[start:start + BLOCK_BYTES]
        block_flags = flags | (CHUNK_START if start == 0 else 0)
        padded = block.ljust(BLOCK_BYTES, b"\0")
        if start == starts[-1]:
            return chaining, padded, counter, len(block), block_flags | CHUNK_END
        chaining = compress(chaining, padded, counter, len(block), block_flags)
    raise AssertionError("a chunk has a last block")


def tree_node(octets, counter, key, flags):
    """The same of a whole tree: the left half of it is the largest power of two of chunks that leaves some for the right."""
    if len(octets) <= CHUNK_BYTES:
        return chunk_node(octets, counter, key, flags)
    chunks = (len(octets) - 1) // CHUNK_BYTES
    left_chunks = 1 << (chunks.bit_length() - 1)
    left = compress(*tree_node(octets[:left_chunks * CHUNK_BYTES], counter, key, flags))
    right = compress(*tree_node(octets[left_chunks * CHUNK_BYTES:], counter + left_chunks, key, flags))
    return key, struct.pack("<16I", *left, *right), 0, BLOCK_BYTES, flags | PARENT


def blake3(octets, key=None):
    """32 octets; keyed if there is a key."""
    words, flags = (IV, 0) if key is None else (struct.unpack("<8I", key), KEYED_HASH)
    chaining, block, counter, block_len, flags = tree_node(bytes(octets), 0, words, flags)
    return struct.pack("<8I", *compress(chaining, block, counter, block_len, flags | ROOT))


# ---- The form of a value ----

NULL, ABSENT = b"\x00", b"\x01"
NAN_BITS = 0x7FF8000000000000
DATE_MIN, DATE_MAX = -2**31, 2**31 - 1
MICROS_MIN, MICROS_MAX = -2**63, 2**63 - 1
UNITS = {"seconds": 1_000_000, "milliseconds": 1_000, "microseconds": 1}


class Missing:
    """A field that a record does not have."""


class Number(str):
    """A number as JSON spells it."""


class Members(list):
    """The members of a JSON object, as they stand."""


def sized(octets):
    return struct.pack(">I", len(octets)) + octets


def number(text, keeps_negative_zero=False):
    """The form of a decimal number without its tag."""
    found = re.fullmatch(r"([+-]?)([0-9]*)(?:\.([0-9]*))?(?:[eE]([+-]?[0-9]+))?", text, re.ASCII)
    sign, whole, fraction, exponent = found.groups(default="")
    exponent = int(exponent or "0") - len(fraction)
    assert whole + fraction and abs(int(found[4] or "0")) <= 1_000_000, "no number"
    digits = (whole + fraction).lstrip("0")
    exponent += len(digits) - len(digits.rstrip("0"))
    digits = digits.rstrip("0")
    negative = sign == "-" and (digits != "" or keeps_negative_zero)
    if digits == "":
        exponent = 0
    if len(digits) <= 20 and int(digits or "0") < 2**64:
        return struct.pack(">BiQ", negative, exponent, int(digits or "0"))
    return struct.pack(">Bi", 2 | negative, exponent) + sized(digits.encode())


def float_form(value, losses):
    if value != value:
        return NULL if "nan_to_null" in losses else struct.pack(">BQ", 4, NAN_BITS)
    if value in (float("inf"), float("-inf")) and "infinity_to_null" in losses:
        return NULL
    if value == 0 and "negative_zero_to_zero" in losses:
        value = 0.0
    return struct.pack(">Bd", 4, value)


def decimal_form(text, losses):
    special = {"NaN": 0x10, "Infinity": 0x11, "-Infinity": 0x12}
    if text in special:
        lost = "nan_to_null" if text == "NaN" else "infinity_to_null"
        if lost in losses or "float_from_decimal" in losses:
            return float_form(float(text), losses)
        return bytes([3, special[text]])
    if "float_from_decimal" in losses:
        return float_form(float(text), losses)
    return b"\x03" + number(text)


def text_form(text, losses):
    if text == "" and "empty_text_to_null" in losses:
        return NULL
    if "nul_removed" in losses:
        text = text.replace("\0", "")
    return b"\x05" + sized(text.encode())


def json_text(text, losses):
    if "nul_removed" in losses:
        text = text.replace("\0", "")
    # Half a surrogate pair is the three octets that it would be.
    return text.encode("utf-8", "surrogatepass")


def json_form(value, losses):
    """A JSON value, without the tag in front of the outermost one."""
    if value is None:
        return b"n"
    if isinstance(value, bool):
        return bytes([ord("b"), value])
    if isinstance(value, Number):
        form = number(value, keeps_negative_zero=True)
        if "negative_zero_to_zero" in losses and form == struct.pack(">BiQ", 1, 0, 0):
            form = struct.pack(">BiQ", 0, 0, 0)
        return b"#" + form
    if isinstance(value, str):
        return b"s" + sized(json_text(value, losses))
    if isinstance(value, Members):
        # The later of two members with one name is the one that counts.
        members = {json_text(name, losses): member for name, member in value}
        forms = [sized(name) + json_form(members[name], losses) for name in sorted(members)]
        return b"{" + struct.pack(">I", len(forms)) + b"".join(forms)
    forms = [json_form(item, losses) for item in value]
    return b"[" + struct.pack(">I", len(forms)) + b"".join(forms)


def cut(micros, losses):
    unit = max([1, *(UNITS[loss["unit"]] for loss in losses.values() if loss["loss"] == "truncate_timestamp")])
    return max(micros // unit * unit, -(2**63))


def instant_form(tag, micros, losses):
    if micros in (MICROS_MIN, MICROS_MAX):
        return NULL if "infinity_to_null" in losses else struct.pack(">Bq", tag, micros)
    return struct.pack(">Bq", tag, cut(micros, losses))


def value_form(kind, value, losses):
    """The form of `value`, which is one of the type `kind`; see `parsed` for what values of a type are in Python."""
    name = kind["type"]
    if value is Missing:
        return NULL if "absent_to_null" in losses else ABSENT
    if value is None:
        return NULL
    if name == "bool":
        return bytes([2, value])
    if name == "int":
        return b"\x03" + number(str(value))
    if name == "float":
        return float_form(value, losses)
    if name in ("decimal", "numeric"):
        return decimal_form(value, losses)
    if name in ("text", "reference", "opaque", "time_tz"):
        return text_form(value, losses)
    if name == "bytes":
        return b"\x06" + sized(value)
    if name == "date":
        is_lost = value in (DATE_MIN, DATE_MAX) and "infinity_to_null" in losses
        return NULL if is_lost else struct.pack(">Bi", 7, value)
    if name == "time":
        return struct.pack(">Bq", 8, cut(value, losses))
    if name in ("timestamp_tz", "timestamp"):
        return instant_form(9 if name == "timestamp_tz" else 10, value, losses)
    if name == "interval":
        return struct.pack(">Biiq", 11, *value)
    if name == "uuid":
        return b"\x0c" + value
    if name in ("json", "variant"):
        is_lost = isinstance(value, JsonNull) and "json_null_to_null" in losses
        return NULL if is_lost else b"\x0d" + json_form(plain_json(value), losses)
    if name in ("list", "vector"):
        item = kind.get("item", {"type": "float", "bits": 64})
        return b"\x0e" + struct.pack(">I", len(value)) + b"".join(value_form(item, each, losses) for each in value)
    members = members_of(kind)
    forms = [value_form(member, each, losses) for member, each in zip(members, value)]
    return b"\x0f" + struct.pack(">I", len(forms)) + b"".join(forms)


class JsonNull:
    """The JSON value `null`, which is not a missing one."""


def plain_json(value):
    return None if isinstance(value, JsonNull) else value


def members_of(kind):
    if kind["type"] == "geopoint":
        return [{"name": name, "type": "float", "bits": 64} for name in ("lat", "lng")]
    return kind["fields"]


# ---- From the JSON and the text of a value ----


def day(text):
    """Days from 1970-01-01 of a date in the proleptic Gregorian calendar."""
    if text in ("infinity", "-infinity"):
        return DATE_MIN if text[0] == "-" else DATE_MAX
    year, month, day_of_month = (int(part) for part in re.fullmatch(r"([+-]?\d+)-(\d\d)-(\d\d)", text).groups())
    # Years begin in March here, so that a leap day is the last of its year.
    year -= month <= 2
    day_of_year = (153 * (month + (9 if month <= 2 else -3)) + 2) // 5 + day_of_month - 1
    return 365 * year + year // 4 - year // 100 + year // 400 + day_of_year - 719_468


def clock(text):
    hours, minutes, seconds, fraction = re.fullmatch(r"(\d\d):(\d\d):(\d\d)(?:\.(\d{1,6}))?", text).groups(default="")
    return (int(hours) * 3600 + int(minutes) * 60 + int(seconds)) * 1_000_000 + int(fraction.ljust(6, "0") or "0")


def instant(text):
    if text in ("infinity", "-infinity"):
        return MICROS_MIN if text[0] == "-" else MICROS_MAX
    date, time = text.removesuffix("Z").split("T")
    return day(date) * 86_400_000_000 + clock(time)


def interval(text):
    found = re.fullmatch(r"P(-?\d+)M(-?\d+)DT(-?)(\d+)(?:\.(\d{6}))?S", text)
    micros = int(found[4]) * 1_000_000 + int(found[5] or "0")
    return int(found[1]), int(found[2]), -micros if found[3] else micros


TEXTS = {
    "decimal": str,
    "numeric": str,
    "text": str,
    "reference": str,
    "opaque": str,
    "time_tz": str,
    "date": day,
    "time": clock,
    "timestamp": instant,
    "timestamp_tz": instant,
    "interval": interval,
    "uuid": lambda text: bytes.fromhex(text.replace("-", "")),
}


def as_float(value, bits):
    value = float(value)
    return struct.unpack("<f", struct.pack("<f", value))[0] if bits == 32 else value


def parsed(kind, value):
    """From the JSON of a value of a type to what `value_form` takes."""
    name = kind["type"]
    if value is None:
        is_json = name in ("json", "variant") and not kind.get("nullable", True)
        return JsonNull() if is_json else None
    if name == "bool":
        return value
    if name == "int":
        return int(value)
    if name == "float":
        return as_float(value, kind["bits"])
    if name == "bytes":
        return base64.b64decode(value)
    if name in ("json", "variant"):
        return value
    if name in ("list", "vector"):
        item = kind.get("item", {"type": "float", "bits": 64})
        return [parsed(item, each) for each in value]
    if name in ("struct", "geopoint"):
        found = dict(value)
        return [parsed(member, found.get(member["name"])) for member in members_of(kind)]
    return TEXTS[name](str(value))


def stored(kind, value):
    """From what an SQLite file has in a column of a type to what `value_form` takes: texts are as in JSON, but without quotes."""
    name = kind["type"]
    if value is None:
        return None
    if name == "bool":
        return value == 1
    if name == "int":
        return int(value)
    if name == "float":
        return as_float(value, kind["bits"])
    if name == "bytes":
        return value
    if name in ("json", "variant"):
        value = read_json(value)
        return JsonNull() if value is None else value
    if name in ("list", "vector", "struct", "geopoint"):
        return parsed(kind, read_json(value))
    return TEXTS[name](value)


def read_json(text):
    return json.loads(text, parse_int=Number, parse_float=Number, object_pairs_hook=Members)


# ---- Records and collections ----


class Recipe:
    """The fields of a record in their order, those that are its key, and what is lost of each."""

    def __init__(self, told):
        self.fields = told["fields"]
        names = [field["name"] for field in self.fields]
        self.key = [names.index(name) for name in told["key"] if name in names]
        self.losses = [
            {loss["loss"]["loss"] + loss["loss"].get("unit", ""): loss["loss"] for loss in told["losses"] if loss["field"] == name}
            for name in names
        ]

    def digests(self, values):
        """Form, digest of the key, digest of the record."""
        forms = [value_form(*of) for of in zip(self.fields, values, self.losses)]
        form = b"".join(forms)
        record = blake3(form, RECORD_HASH_KEY)[:16]
        if not self.key:
            return form, record, record
        key = blake3(b"".join(forms[place] for place in self.key), KEY_HASH_KEY)[:16]
        return form, key, record

    def of_json(self, text):
        found = dict(read_json(text))
        return self.digests([
            parsed(field, found[field["name"]]) if field["name"] in found else Missing for field in self.fields
        ])


def totals(digests):
    """Count, sum, exclusive or and root of all (key, record) pairs."""
    buckets = [[0, 0, 0] for _ in range(BUCKETS)]
    for key, record in digests:
        bucket = buckets[int.from_bytes(key[:2], "big") >> 4]
        record = int.from_bytes(record, "big")
        bucket[0] += 1
        bucket[1] = (bucket[1] + record) % 2**128
        bucket[2] ^= record
    octets = b"".join(
        count.to_bytes(8, "big") + total.to_bytes(16, "big") + joined.to_bytes(16, "big") for count, total, joined in buckets
    )
    joined = 0
    for bucket in buckets:
        joined ^= bucket[2]
    return {
        "record_count": sum(bucket[0] for bucket in buckets),
        "sum": f"{sum(bucket[1] for bucket in buckets) % 2**128:032x}",
        "xor": f"{joined:032x}",
        "root": blake3(octets).hex(),
    }


def check_vectors(path):
    """The names of the vectors that this implementation disagrees with."""
    with open(path, encoding="utf-8") as file:
        told = json.load(file)
    wrong = []
    for vector in told["vectors"]:
        form, key, record = (octets.hex() for octets in Recipe(vector["recipe"]).of_json(vector["record"]))
        if (form, key, record) != (vector["form"], vector["key_digest"], vector["record_digest"]):
            wrong.append(f"{vector['name']}: {form} {key} {record}")
    for collection in told["collections"]:
        recipe = Recipe(collection["recipe"])
        found = totals(recipe.of_json(record)[1:] for record in collection["records"])
        if any(found[name] != collection[name] for name in found):
            wrong.append(f"{collection['name']}: {found}")
    return len(told["vectors"]) + len(told["collections"]), wrong


def quoted(name):
    return '"' + name.replace('"', '""') + '"'


def read_lines(path, told):
    """What all records of a file add up to, one JSON object a line; a member that an object does not have is absent."""
    recipe = Recipe(told)
    with open(path, encoding="utf-8") as lines:
        return totals(recipe.of_json(line)[1:] for line in lines)


# Where whimbrel keeps in an SQLite table which fields a record did not have, since a column knows only null.
REST_COLUMN = "_whimbrel_rest"


def read_table(database, table, told):
    """What all records of a table add up to."""
    recipe = Recipe(told)
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    columns = [quoted(field["name"]) for field in recipe.fields]
    known = {row[1] for row in connection.execute(f"PRAGMA table_info({quoted(table)})")}
    columns.append(quoted(REST_COLUMN) if REST_COLUMN in known else "NULL")

    def pair(row):
        absent = json.loads(row[-1] or "{}").get("$absent", [])
        values = [
            Missing if field["name"] in absent else stored(field, value) for field, value in zip(recipe.fields, row)
        ]
        return recipe.digests(values)[1:]

    return totals(map(pair, connection.execute(f"SELECT {', '.join(columns)} FROM {quoted(table)}")))


def main(arguments):
    match arguments:
        case ["vectors", path]:
            count, wrong = check_vectors(path)
            print("\n".join([*wrong, f"{count - len(wrong)} of {count} agree"]))
            return 1 if wrong or count == 0 else 0
        case ["table", database, table, recipe]:
            print(json.dumps(read_table(database, table, json.loads(recipe))))
            return 0
        case ["lines", path, recipe]:
            print(json.dumps(read_lines(path, json.loads(recipe))))
            return 0
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

// Fills this origin's localStorage with a sample of what web applications leave there.
//
// `?set=full`   every entry: thousands of records and one value of about 1 MB
// `?set=part`   the same groups with a few records each
// `?set=other`  what a second application keeps, with keys that are also names of Storage methods
// `?set=lone`   keys and values with half of a surrogate pair
//
// The content depends on nothing but this file: the random numbers are seeded by group, and no clock is read.
// When all is stored, `document.documentElement.dataset.entries` holds the number of entries.

"use strict";

// A fixed start for every date, so that no clock is read.
const FIRST_DAY = Date.UTC(2023, 0, 1);
const DAY_MS = 86_400_000;
// The part set keeps this many records of each group.
const PART_RECORDS = 8;
// Length of the one large value in UTF-16 units. The text is half ASCII or more, so its UTF-8 is a little longer.
const LARGE_VALUE_UNITS = 960_000;

// ---- Random numbers ---------------------------------------------------------------------------------------------

/** mulberry32, seeded by FNV-1a of `name`, so that one group can change without moving the others. */
function random(name) {
  let state = 0x811c9dc5;
  for (let i = 0; i < name.length; i++) state = Math.imul(state ^ name.charCodeAt(i), 0x01000193);
  const next = () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return (t ^ (t >>> 14)) >>> 0;
  };
  const below = (n) => next() % n;
  const hex = (digits) => Array.from({ length: digits }, () => below(16).toString(16)).join("");
  return {
    below,
    hex,
    pick: (list) => list[below(list.length)],
    oneIn: (n) => below(n) === 0,
    uuid: () => `${hex(8)}-${hex(4)}-4${hex(3)}-a${hex(3)}-${hex(12)}`,
    moment: () => FIRST_DAY + below(700) * DAY_MS + below(DAY_MS),
  };
}

const iso = (ms) => new Date(ms).toISOString();

/** A number written exactly as given: JavaScript's own numbers would round it or change its form. */
const literal = (text) => JSON.rawJSON(text);

const json = (value) => JSON.stringify(value);

// ---- Words ------------------------------------------------------------------------------------------------------

const WORDS = [
  "tide", "marsh", "heron", "ledger", "north", "signal", "paper", "harbour", "quiet", "seven", "wader", "storm",
  "Zürich", "naïve", "łódź", "ελιά", "птица", "море", "鳥", "海岸線", "새", "ปลา", "पक्षी", "עורב", "طائر", "ጨረቃ",
  // A base letter with combining marks, next to its composed twin: they look alike and must stay apart.
  "cafe\u0301", "caf\u00e9", "a\u0323\u0302", "n\u0303",
  // One flag, one family joined by zero-width joiners, a skin tone, and a keycap.
  "🐦", "🇨🇭", "👩‍👩‍👧‍👦", "👍🏽", "3️⃣",
];
const NAMES = [
  "Ada Lovelace", "Grace Hopper", "Søren Ó Briain", "李小龍", "Ольга Петрова", "محمد علي", "נועה לוי", "ขวัญ ใจดี",
  "Jose\u0301 Núñez", "山田 太郎", "Renée O'Connor", "D'Artagnan \"the fourth\"", "Null", "김민준", "Ὀδυσσεύς", "🦊 Fox",
];

const sentence = (rng, words) => Array.from({ length: words }, () => rng.pick(WORDS)).join(" ");

/** One instant in the forms that programs of different age and country have written. */
function date(rng, form) {
  const ms = rng.moment();
  const text = iso(ms);
  switch (form % 8) {
    case 0: return text;
    case 1: return text.slice(0, 10);
    case 2: return `${text.slice(8, 10)}/${text.slice(5, 7)}/${text.slice(0, 4)}`;
    case 3: return new Date(ms).toUTCString();
    case 4: return ms;
    case 5: return Math.floor(ms / 1000);
    case 6: return `${text.slice(0, 19)}+05:30`;
    default: return `${text.slice(0, 19).replace("T", " ")}.${text.slice(20, 23)}456`;
  }
}

// ---- Keys `prefix:id` and `prefix/id` ---------------------------------------------------------------------------

function user(i) {
  const rng = random(`user ${i}`);
  const record = {
    name: rng.pick(NAMES),
    email: `user${i}@example.org`,
    active: rng.below(2) === 0,
    // Whole numbers, text and null in one field.
    age: i % 9 === 4 ? String(18 + rng.below(60)) : i % 11 === 5 ? null : 18 + rng.below(60),
    score: (rng.below(100_000) - 20_000) / 100,
    signed_up: iso(rng.moment()),
    born: date(rng, i),
    external_id: literal(`90071992547${String(40993 + i).padStart(5, "0")}`),
    address: { city: rng.pick(WORDS), geo: { lat: (rng.below(180_000) - 90_000) / 1000, lon: 0.5 } },
    tags: Array.from({ length: rng.below(4) }, () => rng.pick(WORDS)),
  };
  // Some records lack a field, others hold null there.
  if (i % 5 === 0) delete record.address;
  if (i % 7 === 0) record.address = null;
  if (i % 6 === 1) record.phone = `00${rng.below(900_000) + 100_000}`;
  return [`user:${i}`, json(record)];
}

function order(i, users) {
  const rng = random(`order ${i}`);
  const lines = Array.from({ length: 1 + rng.below(2) }, () => ({
    sku: `sku-${String(1 + rng.below(600)).padStart(4, "0")}`,
    quantity: 1 + rng.below(9),
    price: literal(`${rng.below(200)}.${String(rng.below(100)).padStart(2, "0")}`),
  }));
  const record = {
    user_id: 1 + rng.below(users),
    lines,
    total: literal(`${rng.below(900)}.${rng.below(10)}0`),
    currency: rng.pick(["CHF", "EUR", "JPY", null]),
    placed: date(rng, rng.oneIn(4) ? 6 : 0),
    // A field that changed its type between releases of the application.
    version: rng.pick([1, 2, "2", "2.1-β", null]),
  };
  if (rng.oneIn(3)) record.comment = rng.oneIn(3) ? "" : sentence(rng, 3);
  return [`order/${rng.hex(6)}${i.toString(16).padStart(4, "0")}`, json(record)];
}

function note(i) {
  const rng = random(`note ${i}`);
  const record = { title: sentence(rng, 2), body: i % 12 === 3 ? "" : sentence(rng, 5 + rng.below(6)), pinned: rng.oneIn(5) };
  if (i % 4 === 0) record.updated = iso(rng.moment());
  if (i === 5) record.body = "before\u0000after";
  if (i === 6) record.body = "tab\tline\nreturn\rquote\"backslash\\slash/\u2028separator\u2029end\u007f\ufeff";
  return [`note:${i}`, json(record)];
}

/** Keys that differ from a `note:` key in case or separator only. */
function noteTwin(i) {
  return [`Note:${i}`, json({ title: `capital ${i}`, body: "a different record than the small one" })];
}
function noteSlash(i) {
  return [`note/${i}`, json({ title: `slash ${i}`, body: "a different record than the colon one" })];
}

function session(i) {
  const rng = random(`session ${i}`);
  return [`session:${rng.uuid()}`, json({
    user_id: 1 + rng.below(PART_RECORDS),
    token: rng.hex(40),
    // In this group the field is a number of milliseconds, of seconds, or text.
    expires: date(rng, rng.pick([4, 5, 0])),
    device: rng.oneIn(4) ? null : { os: rng.pick(["Linux", "macOS", "Android"]), app: [1, rng.below(20), 0] },
  })];
}

/** Text that looks like another type: none of it may turn into that type. */
const LOOKALIKES = ["007", "1e3", "0x1F", "-0", "3.10", "true", "null", "NaN", "Infinity", "", " 12 ", "9007199254740993", "2024-02-30"];
/** Numbers at the edges of what a double holds, in the form in which they were written. */
const EDGES = ["1.7976931348623157e308", "-1.7976931348623157e308", "5e-324", "2.2250738585072014e-308", "-0", "-0.0", "0", "0.0",
  "1.0", "1E+2", "0.1", "0.30000000000000004", "1e21", "1e-7", "123456789.123456789"];

function product(i) {
  const rng = random(`product ${i}`);
  const record = {
    code: LOOKALIKES[i % LOOKALIKES.length],
    name: sentence(rng, 2),
    price: literal(`${rng.below(300)}.${rng.pick(["00", "10", "99", "5"])}`),
    factor: literal(EDGES[i % EDGES.length]),
    stock: rng.oneIn(6) ? null : rng.below(500),
    attributes: { colour: rng.pick(WORDS), size: [rng.below(90), rng.below(90)], deep: [[1, [2, [3, { four: null }]]]] },
  };
  if (i % 60 === 7) Object.assign(record, hostileFields(rng));
  return [`product/sku-${String(i).padStart(4, "0")}`, json(record)];
}

/** Field names that a careless statement, a plain object or a case-blind column list would trip over. */
function hostileFields(rng) {
  const names = [
    "\"; DROP TABLE product;--", "'; DELETE FROM product; --", "a\"b", "a`b", "[a]", "select", "from", "order", "group by",
    "", " ", " leading", "trailing ", "line\nbreak", "tab\there", "dot.ted", "$ref", "%s", "{}", "\\", "?", ":name", "@p",
    "rowid", "_rowid_", "oid", "id", "_id", "_key", "_value", "__op", "_whimbrel_rest", "Name", "NAME", "constructor", "toString",
    "cafe\u0301", "caf\u00e9", "🐦", "鳥", "طائر", "null", "0", "-1", "1e3", "x".repeat(64), "x".repeat(63) + "y", "é".repeat(40),
  ];
  const fields = Object.fromEntries(names.map((name) => [name, rng.below(1000)]));
  Object.defineProperty(fields, "__proto__", { value: rng.below(1000), enumerable: true });
  return Object.defineProperty({}, "hostile", { value: fields, enumerable: true });
}

/** The same names at the top of a record, where each of them would become a column. */
function hostile(i) {
  const rng = random(`hostile ${i}`);
  const { hostile: fields } = hostileFields(rng);
  return [`hostile:${i}`, json(fields)];
}

function event(i) {
  const rng = random(`event ${i}`);
  const at = FIRST_DAY + i * 3_671_013;
  return [`event:${iso(at)}`, json({
    kind: rng.pick(["view", "click", "purchase"]),
    payload: rng.pick([1, "one", null, true, [1, 2], { x: 1 }]),
    at: iso(at),
  })];
}

function ledger(i) {
  const rng = random(`ledger ${i}`);
  const digits = (n) => Array.from({ length: n }, () => rng.below(10)).join("");
  return [`ledger/${rng.hex(8)}-${i}`, json({
    // Above 2^53 and within 64 signed bits; above 64 signed bits; above 64 bits at all.
    amount: literal(i === 1 ? "9223372036854775807" : i === 2 ? "-9223372036854775808" : `${rng.oneIn(3) ? "-" : ""}8${digits(17)}`),
    checksum: literal(i === 3 ? "9223372036854775808" : i === 4 ? "18446744073709551615" : `1${digits(18)}1`),
    wei: literal(i === 5 ? "18446744073709551616" : `7${digits(24)}`),
    safe: literal(rng.pick(["9007199254740991", "9007199254740992", "9007199254740993", "-9007199254740993"])),
    booked: date(rng, 1),
  })];
}

/** Several separators in one key. */
function cartItem(i) {
  const rng = random(`cart ${i}`);
  return [`cart:${1 + (i % 13)}:item:${i}`, json({ sku: `sku-${rng.below(600)}`, quantity: 1 + rng.below(5) })];
}
function file(i) {
  const rng = random(`file ${i}`);
  return [`file/${rng.pick(["docs", "bilder", "文書"])}/${rng.hex(4)}/${i}.txt`, json({ size: rng.below(9000), owner: null, mode: "0644" })];
}

/** A draft is saved while one types: one of them was cut short. */
function draft(i) {
  const rng = random(`draft ${i}`);
  const text = json({ subject: sentence(rng, 3), to: [`user:${i}`], body: sentence(rng, 8) });
  return [`draft:${i}`, i === 7 ? text.slice(0, text.length - 12) : text];
}

/** A group whose values are no objects. */
function flag(i) {
  return [`flag:option-${i}`, ["true", "false", "1", "0", "null", "on", "\"on\"", "[]"][i % 8]];
}

function recordEntries(size) {
  const many = (count, make) => Array.from({ length: size(count) }, (_, i) => make(i + 1, size));
  return [
    ...many(1200, user), ...many(1100, (i) => order(i, size(1200))), ...many(600, note), ...many(5, noteTwin), ...many(2, noteSlash),
    ...many(500, session), ...many(600, product), ...many(10, hostile), ...many(600, event), ...many(300, ledger),
    ...many(150, cartItem), ...many(80, file), ...many(20, draft), ...many(16, flag),
  ];
}

// ---- Keys whose value is an array, or an object keyed by id -----------------------------------------------------

function listEntries(size) {
  const rng = random("lists");
  const many = (count, make) => Array.from({ length: size(count) }, (_, i) => make(i + 1));
  const todo = (i) => {
    const record = { id: i, text: sentence(rng, 3), done: rng.below(2) === 0, due: rng.oneIn(3) ? null : date(rng, i) };
    if (rng.oneIn(4)) record.assignee = 1 + rng.below(size(1200));
    if (rng.oneIn(6)) record.subtasks = [{ id: 1, text: rng.pick(WORDS) }, { id: 2, text: "" }];
    return record;
  };
  return [
    ["todos", json(many(320, todo))],
    ["messages", json(many(310, (i) => ({ id: `m-${rng.hex(10)}`, from: `user:${i}`, text: sentence(rng, 4), read: rng.oneIn(2) })))],
    // Whole numbers and text among the ids: 7 and "7" are two records.
    ["bookmarks", json(many(40, (i) => ({ id: i % 2 ? i : String(i - 1), title: sentence(rng, 2) })))],
    ["history", json(many(60, (i) => ({ path: `/page/${i % 7}`, at: date(rng, 0) })))],
    ["duplicates", json(many(12, (i) => ({ id: Math.ceil(i / 2), label: `copy ${i}` })))],
    ["recent_searches", json(["whimbrel", "", "WHERE 1=1", "鳥", 42, literal("-0"), null, true, literal("9007199254740993"), 1.5])],
    ["mixed_list", json([{ id: 1, name: "one" }, "two", 3, null, [4], { id: 5 }])],
    ["nested_lists", json([[1, 2], [], [[3]]])],
    ["empty_list", "[]"],
  ];
}

function mapEntries(size) {
  const rng = random("maps");
  const keyed = (count, key, make) => json(Object.fromEntries(Array.from({ length: size(count) }, (_, i) => [key(i + 1), make(i + 1)])));
  return [
    ["contacts", keyed(250, (i) => `c${i}-${rng.hex(6)}`, (i) => {
      const record = { name: rng.pick(NAMES), phones: [`+41 79 ${100 + rng.below(900)} 00 ${10 + rng.below(90)}`], since: date(rng, i) };
      if (rng.oneIn(3)) record.note = null;
      return record;
    })],
    // Keys like whole numbers: a browser lists them in numeric order.
    ["inventory", keyed(90, (i) => String(i * 37), (i) => ({ count: i, price: literal(`${i}.50`), bin: rng.pick(WORDS) }))],
    ["http_cache", keyed(40, (i) => `https://api.example.org/v1/items?page=${i}&q=a/b:c#x`, (i) => ({ status: 200, etag: `"${rng.hex(8)}"`, body: { page: i } }))],
    ["oddly_keyed", json({ "": { n: 1 }, " ": { n: 2 }, "a": { n: 3 }, "A": { n: 4 }, "\"; DROP TABLE x;--": { n: 5 }, "🐦": { n: 6 }, "line\nbreak": { n: 7 } })],
    ["empty_map", "{}"],
  ];
}

// ---- Single values and hostile keys -----------------------------------------------------------------------------

function singleEntries(size) {
  const rng = random("singles");
  const large = [];
  for (let units = 0; units < size(LARGE_VALUE_UNITS); ) {
    const word = rng.below(12) ? rng.pick(WORDS.slice(0, 12)) : rng.pick(WORDS);
    large.push(word);
    units += word.length + 1;
  }
  return [
    ["manuscript", large.join(" ")],
    ["theme", "dark"],
    ["language", "\"de-CH\""],
    ["greeting", "Grüezi, 世界! 👩‍👩‍👧‍👦 e\u0301"],
    ["empty_text", ""],
    ["empty_json_text", "\"\""],
    ["blank", "   "],
    ["launch_count", "42"],
    ["negative_zero", "-0"],
    ["above_2_53", "9007199254740993"],
    ["above_u64", "123456789012345678901234567890"],
    ["decimal", "19.90"],
    ["largest", "1.7976931348623157e308"],
    ["smallest", "5e-324"],
    ["leading_zeros", "007"],
    ["hexadecimal", "0x1F"],
    ["onboarded", "true"],
    ["offline", "false"],
    ["last_error", "null"],
    ["undefined_left_behind", "undefined"],
    ["object_left_behind", "[object Object]"],
    ["not_a_number", "NaN"],
    ["last_seen", "2024-02-29T23:59:59.999Z"],
    ["last_seen_local", "29.02.2024 23:59"],
    ["last_seen_text", "\"2024-02-29\""],
    ["auth", "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ1c2VyOjE3In0."],
    ["settings", json({ theme: "dark", font: { size: 14, family: "Noto", ratio: 1.25 }, panels: [{ id: "left", open: true }, { id: "right" }], beta: null, limits: { ids: literal("9007199254740993") } })],
    ["settings_pretty", JSON.stringify({ indent: 2, wrap: { column: 120, on: true }, note: null }, null, 2)],
    // Escapes that a parser must undo, and that JSON.stringify would not have written.
    ["escaped", "{\"text\":\"caf\\u00e9 \\ud83d\\udc26 \\/ \\u0041\",\"n\":1.50}"],
    ["spaced", "  \n { \"a\" : [ 1 , 2 ] , \"b\" : \"x\" }\n "],
    // Looks like JSON, and was cut short or never was.
    ["backup_2023", "{\"version\":3,\"items\":[{\"id\":1,\"na"],
    ["single_quotes", "{'a': 1}"],
    ["trailing_comma", "[1, 2, 3,]"],
    ["two_values", "{\"a\":1}{\"b\":2}"],
    ...hostileKeys().map((key, i) => [key, i % 3 === 0 ? json({ hostile: true, index: i }) : i % 3 === 1 ? `value ${i}` : String(i)]),
  ];
}

function hostileKeys() {
  const long = "a_key_that_is_longer_than_sixty_three_bytes_and_so_is_its_twin_____";
  return [
    "\"", "'", "`", "\"; DROP TABLE x;--", "'; DELETE FROM user; --", "x\" (a); --", "\\", "%", "_", "*", "?", "$1", ":", "/", "::", "//",
    ":leading", "/leading", "trailing:", "trailing/", "a:b:c/d/e", "a//b::c", "https://example.org/path?q=1&r=a:b#x", "file:///C:/x",
    "", " ", "  ", " leading space", "trailing space ", "\t", "line\nbreak", "line\nbreak:1", "return\r\nand line", "\u00a0", "\u200b", "\ufeff",
    "🐦", "🐦:1", "👩‍👩‍👧‍👦/1", "鳥:1", "طائر:1", "cafe\u0301", "caf\u00e9",
    "select", "SELECT", "table", "from:1", "order", "group by", "null", "true", "undefined", "0", "1", "01", "-1", "1e3", "1.5",
    "sqlite_master", "sqlite_x:1", "_whimbrel_lane", "_whimbrel_lane:1", "whimbrel", "_key", "_value", "_values", "_values:1", "_whimbrel_rest",
    "rowid", "main.x", "temp", `${long}1`, `${long}2`, `${long}:1`, "é".repeat(40), "n".repeat(1000),
    "case twin", "Case Twin", "CASE TWIN",
  ];
}

// ---- The other sets ---------------------------------------------------------------------------------------------

function otherEntries() {
  const rng = random("other");
  // Names of Storage's own members. They are stored, and `key(i)` finds them; `localStorage[name]` gives the member instead,
  // so `JSON.stringify(localStorage)` leaves them out and throws at `__proto__`.
  const shadowed = ["length", "key", "getItem", "setItem", "clear", "constructor", "toString", "__proto__", "hasOwnProperty"];
  return [
    ...Array.from({ length: 90 }, (_, i) => [`task/${rng.hex(6)}`, json({ title: sentence(rng, 3), rank: i % 10 === 9 ? "high" : i, due: date(rng, i) })]),
    ["user:1", json({ name: "another person than user 1 of the other origin", email: null })],
    ["theme", "light"],
    ["columns", json([{ id: "a", width: 120 }, { id: "b", width: 80.5 }])],
    ["lanes", json({ todo: { limit: 5 }, done: { limit: null } })],
    ["", "the empty key"],
    ["line\nbreak", "1"],
    ...shadowed.map((key) => [key, `the value of ${key}`]),
  ];
}

function loneEntries() {
  return [
    ["plain", "no surrogates at all"],
    ["whole pair", "\ud83d\udc26"],
    ["value, high half alone", "cut \ud83d"],
    ["value, low half alone", "\udc26 cut"],
    ["value, halves in wrong order", "\udc26\ud83d"],
    // Here the escape stands in the JSON text of the value, six ASCII characters in storage.
    ["value, escape in its own JSON", "{\"text\":\"cut \\ud83d\",\"n\":1}"],
    ["value, half in an object", "{\"text\":\"cut \ud83d\",\"n\":1}"],
    ["value, half in a field name", "{\"cut \ud83d\":1}"],
    ["key \ud83d", "high half alone in the key"],
    ["key \udc26", "low half alone in the key"],
    ["note:\ud83d", "{\"title\":\"half in the id\"}"],
    ["note:1", "{\"title\":\"whole\"}"],
    ["\ud83d:1", "{\"title\":\"half in the prefix\"}"],
  ];
}

function entriesOf(set) {
  const size = set === "full" ? (count) => count : (count) => (count === LARGE_VALUE_UNITS ? 2000 : Math.min(count, PART_RECORDS));
  switch (set) {
    case "full":
    case "part":
      return [...recordEntries(size), ...listEntries(size), ...mapEntries(size), ...singleEntries(size)];
    case "other": return otherEntries();
    case "lone": return loneEntries();
    default: throw new Error(`unknown set \`${set}\` (known sets: full, part, other, lone)`);
  }
}

function fill(set) {
  const entries = entriesOf(set);
  localStorage.clear();
  for (const [key, value] of entries) localStorage.setItem(key, value);
  // Two entries under one key would be one entry fewer than intended.
  if (localStorage.length !== entries.length) throw new Error(`${entries.length} entries made, ${localStorage.length} stored`);
  document.getElementById("count").textContent = String(entries.length);
  document.documentElement.dataset.entries = String(entries.length);
}

fill(new URLSearchParams(location.search).get("set") ?? "full");

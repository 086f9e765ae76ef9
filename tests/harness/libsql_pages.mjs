// Holds a database against what web pages said of their own `localStorage`, with npm `@libsql/client`, for tests that must
// not believe whimbrel.
//
// Environment: LIBSQL_URL (a server or a file), LIBSQL_TOKEN (may be empty), WHIMBREL_NODE_MODULES. Argument: a JSON file,
// `{origin: JSON.stringify(localStorage) of its page}`. Every key must be there, once, with its value, in the rows that
// the source's documentation says, and no other key. Entries with half of a surrogate pair are no Unicode and must not be there.
// Output: differences, a line each; without any `same KEYS ROWS WITHHELD`.
import { readFileSync } from 'node:fs';
import { isDeepStrictEqual } from 'node:util';
import { pathToFileURL } from 'node:url';
import { join } from 'node:path';

const PAGE_ROWS = 500;
const OURS = new Set(['_origin', '_key', '_id', '_value', '_value_text', '_whimbrel_rest']);
const modules = process.env.WHIMBREL_NODE_MODULES;
const url = process.env.LIBSQL_URL;
const kind = url.startsWith('file:') ? 'sqlite3' : 'http';
const { createClient } = await import(pathToFileURL(join(modules, `@libsql/client/lib-esm/${kind}.js`)).href);
const client = createClient({ url, authToken: process.env.LIBSQL_TOKEN || undefined, intMode: 'bigint' });
const quote = (name) => `"${name.replaceAll('"', '""')}"`;

async function* rows(table) {
  const about = await client.execute({ sql: 'SELECT name FROM pragma_table_xinfo(?)', args: [table] });
  const names = about.rows.map((row) => row[0]);
  // Text is asked for as octets: the client ends text of a file at NUL.
  const values = names
    .map(quote)
    .map((name) => `typeof(${name}), CASE typeof(${name}) WHEN 'text' THEN CAST(${name} AS BLOB) ELSE ${name} END`);
  let after = -(2n ** 63n);
  for (;;) {
    const page = await client.execute({
      sql: `SELECT rowid, ${values.join(', ')} FROM ${quote(table)} WHERE rowid > ? ORDER BY rowid LIMIT ${PAGE_ROWS}`,
      args: [after],
    });
    for (const row of page.rows) {
      const value = (at) => (row[at] === 'text' ? Buffer.from(row[at + 1]).toString() : row[at + 1]);
      yield Object.fromEntries(names.map((name, index) => [name, value(1 + 2 * index)]));
      after = row[0];
    }
    if (page.rows.length < PAGE_ROWS) return;
  }
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function isUnicode(key, value) {
  let isWell = key.isWellFormed() && value.isWellFormed();
  const look = (name, member) => {
    isWell &&= name.isWellFormed() && (typeof member !== 'string' || member.isWellFormed());
    return member;
  };
  try {
    JSON.parse(value, look);
  } catch {
    // Text that is no JSON has no escapes.
  }
  return isWell;
}

const isObject = (value) => typeof value === 'object' && value !== null && !Array.isArray(value);

// Whether a column holds a member: itself, or its JSON text.
function holds(stored, member) {
  if (member === undefined || member === null) return stored === null || stored === 'null';
  if (typeof member === 'boolean' && stored === BigInt(member)) return true;
  if (typeof member === 'number' && ['bigint', 'number'].includes(typeof stored)) return Number(stored) === member;
  if (typeof member === 'string' && stored === member) return true;
  return typeof stored === 'string' && isDeepStrictEqual(parsed(stored), member);
}

// Whether a row is its part of an entry.
function isPart(row, value) {
  if ('value_text' in row) return (row.value_text ?? row.value_json) === value;
  const whole = parsed(value);
  const isGroup = row._key.endsWith(`:${row._id}`) || row._key.endsWith(`/${row._id}`);
  const record = isGroup ? whole : whole?.[row._id];
  if (isGroup && whole === undefined) return row._value_text === value;
  if (!isObject(record)) return record !== undefined && holds(row._value ?? row._value_text ?? null, record);
  const rest = row._whimbrel_rest ? parsed(row._whimbrel_rest) : {};
  const names = Object.keys(record);
  const has = names.every((name) => {
    if (name in row && !OURS.has(name)) return holds(row[name], record[name]);
    return isDeepStrictEqual(rest[name], record[name]);
  });
  // A column without a member of the record is empty, but for the `id` that the source adds.
  const others = Object.keys(row).filter((name) => !OURS.has(name) && !names.includes(name));
  return has && others.every((name) => row[name] === null || (name === 'id' && row.id === row._id));
}

// Rows that an entry of this value makes outside of `_values`.
function partCount(row, value) {
  if ('value_text' in row || row._key.endsWith(`:${row._id}`) || row._key.endsWith(`/${row._id}`)) return 1;
  return Object.keys(parsed(value) ?? []).length;
}

const told = Object.entries(JSON.parse(readFileSync(process.argv[2], 'utf8'))).flatMap(([origin, json]) =>
  Object.entries(JSON.parse(json)).map(([key, value]) => [JSON.stringify([origin, key]), { value, key, found: 0, wanted: 0 }]),
);
const wanted = new Map(told.filter(([, { key, value }]) => isUnicode(key, value)));
const all = await client.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name");
const tables = all.rows.map((row) => row[0]).filter((name) => !name.startsWith('sqlite_') && !name.startsWith('_whimbrel_'));
const differences = [];
let rowCount = 0;
for (const table of tables) {
  for await (const row of rows(table)) {
    rowCount += 1;
    const name = JSON.stringify([row._origin, row._key]);
    const entry = wanted.get(name);
    if (entry === undefined) {
      differences.push(`${table}: no page has ${name}`);
      continue;
    }
    entry.found += 1;
    entry.wanted = partCount(row, entry.value);
    if (!isPart(row, entry.value)) differences.push(`${table}: another value of ${name}, ${JSON.stringify(row._id)}`);
  }
}
for (const [name, { found, wanted: count, value }] of wanted) {
  if (found === 0) differences.push(`missing: ${name} = ${value.slice(0, 80)}`);
  else if (found !== count) differences.push(`${found} rows, not ${count}, of ${name}`);
}
if (differences.length > 0) console.log(differences.slice(0, 20).join('\n'));
else console.log(`same ${wanted.size} ${rowCount} ${told.length - wanted.size}`);

// Counts and hashes the tables of a libSQL server or file with npm `@libsql/client`, for tests that must not believe whimbrel.
//
// Environment: LIBSQL_URL, LIBSQL_TOKEN (may be empty), WHIMBREL_NODE_MODULES. Arguments: tables; all if there are none.
// Output: a line per table with its name, its record count and a SHA-256, separated by tabs. The hash is of the rows in
// their own byte order, each value with its kind, so it does not depend on the order of storing.
import { createHash } from 'node:crypto';
import { pathToFileURL } from 'node:url';
import { join } from 'node:path';

const PAGE_ROWS = 1000;
const modules = process.env.WHIMBREL_NODE_MODULES;
const url = process.env.LIBSQL_URL;
const kind = url.startsWith('file:') ? 'sqlite3' : 'http';
const { createClient } = await import(pathToFileURL(join(modules, `@libsql/client/lib-esm/${kind}.js`)).href);
const client = createClient({
  url,
  authToken: process.env.LIBSQL_TOKEN || undefined,
  intMode: 'bigint',
});
const quote = (name) => `"${name.replaceAll('"', '""')}"`;

function text(kind, value) {
  if (value === null) return 'n';
  if (typeof value === 'bigint') return `i${value}`;
  if (typeof value === 'number') return `f${Object.is(value, -0) ? '-0' : value}`;
  const octets = Buffer.from(value);
  return kind === 'text' ? `t${octets.length}:${octets}` : `b${octets.toString('hex')}`;
}

async function rows(table) {
  const about = await client.execute({ sql: 'SELECT name FROM pragma_table_xinfo(?)', args: [table] });
  // Text is asked for as octets: the client ends text of a file at NUL.
  const values = about.rows
    .map((row) => quote(row[0]))
    .map((name) => `typeof(${name}), CASE typeof(${name}) WHEN 'text' THEN CAST(${name} AS BLOB) ELSE ${name} END`);
  const found = [];
  let after = -(2n ** 63n);
  for (;;) {
    const page = await client.execute({
      sql: `SELECT rowid, ${values.join(', ')} FROM ${quote(table)} WHERE rowid > ? ORDER BY rowid LIMIT ${PAGE_ROWS}`,
      args: [after],
    });
    for (const row of page.rows) {
      found.push(values.map((_, index) => text(row[1 + 2 * index], row[2 + 2 * index])).join('\x1f'));
      after = row[0];
    }
    if (page.rows.length < PAGE_ROWS) return found;
  }
}

let tables = process.argv.slice(2);
if (tables.length === 0) {
  const all = await client.execute(
    "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name",
  );
  tables = all.rows.map((row) => row[0]);
}
for (const table of tables) {
  const found = (await rows(table)).map((row) => Buffer.from(row)).sort(Buffer.compare);
  const hash = createHash('sha256');
  for (const row of found) hash.update(row).update('\n');
  console.log(`${table}\t${found.length}\t${hash.digest('hex')}`);
}

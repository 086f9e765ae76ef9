// Counts and hashes the tables of a libSQL server with npm `@libsql/client`, for tests that must not believe whimbrel.
//
// Environment: LIBSQL_URL, LIBSQL_TOKEN (may be empty), WHIMBREL_NODE_MODULES. Arguments: tables; all if there are none.
// Output: a line per table with its name, its record count and a SHA-256, separated by tabs. The hash is of the rows in
// their own byte order, each value with its kind, so it does not depend on the order of storing.
import { createHash } from 'node:crypto';
import { pathToFileURL } from 'node:url';
import { join } from 'node:path';

const PAGE_ROWS = 1000;
const modules = process.env.WHIMBREL_NODE_MODULES;
const { createClient } = await import(pathToFileURL(join(modules, '@libsql/client/lib-esm/http.js')).href);
const client = createClient({
  url: process.env.LIBSQL_URL,
  authToken: process.env.LIBSQL_TOKEN || undefined,
  intMode: 'bigint',
});
const quote = (name) => `"${name.replaceAll('"', '""')}"`;

function text(value) {
  if (value === null) return 'n';
  if (typeof value === 'bigint') return `i${value}`;
  if (typeof value === 'number') return `f${Object.is(value, -0) ? '-0' : value}`;
  if (typeof value === 'string') return `t${Buffer.byteLength(value)}:${value}`;
  return `b${Buffer.from(value).toString('hex')}`;
}

async function rows(table) {
  const found = [];
  let after = -(2n ** 63n);
  for (;;) {
    const page = await client.execute({
      sql: `SELECT t.rowid AS "_row", t.* FROM ${quote(table)} AS t WHERE t.rowid > ? ORDER BY t.rowid LIMIT ${PAGE_ROWS}`,
      args: [after],
    });
    for (const row of page.rows) {
      found.push(page.columns.slice(1).map((_, index) => text(row[index + 1])).join('\x1f'));
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

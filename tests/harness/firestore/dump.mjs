// Prints every document of a project as Google's own client reads it, for tests that must not believe whimbrel.
//
// Arguments: HOST PROJECT [--without-own]; the last leaves out the documents of the collection `_whimbrel`.
// Environment: WHIMBREL_NODE_MODULES. Output: a line `{"path":..,"fields":..}` a document, ordered by path, members by name, each
// value with its type, so that the integer 1 and the double 1.0 differ; references are relative to the project. The query names
// no collection, so documents below missing ones are among them.
import { createRequire } from 'node:module';
import { join } from 'node:path';

const require = createRequire(join(process.env.WHIMBREL_NODE_MODULES, '@google-cloud/firestore/package.json'));
const { v1 } = require('@google-cloud/firestore');
const { grpc } = require('google-gax');

const [host, project, ...flags] = process.argv.slice(2);
const [servicePath, port] = host.split(':');
const client = new v1.FirestoreClient({
  servicePath,
  port: Number(port),
  sslCreds: grpc.credentials.createInsecure(),
  projectId: project,
});
const root = `projects/${project}/databases/(default)/documents`;

const double = (value) => `"${Object.is(value, -0) ? '-0' : value}"`;
const relative = (name) => (name.startsWith(`${root}/`) ? name.slice(root.length + 1) : name);

function timestamp({ seconds, nanos }) {
  const second = new Date(Number(seconds) * 1000).toISOString().slice(0, -5);
  return `${second}.${String(nanos ?? 0).padStart(9, '0')}Z`;
}

function object(members) {
  const names = Object.keys(members ?? {}).sort();
  return `{${names.map((name) => `${JSON.stringify(name)}:${text(members[name])}`).join(',')}}`;
}

function isVector(members) {
  return members?.__type__?.stringValue === '__vector__' && Object.keys(members).length === 2;
}

function text(value) {
  switch (value.valueType) {
    case 'nullValue':
      return '{"null":true}';
    case 'booleanValue':
      return `{"boolean":${value.booleanValue}}`;
    case 'integerValue':
      return `{"integer":"${value.integerValue}"}`;
    case 'doubleValue':
      return `{"double":${double(value.doubleValue)}}`;
    case 'timestampValue':
      return `{"timestamp":"${timestamp(value.timestampValue)}"}`;
    case 'stringValue':
      return `{"string":${JSON.stringify(value.stringValue)}}`;
    case 'bytesValue':
      return `{"bytes":"${Buffer.from(value.bytesValue).toString('base64')}"}`;
    case 'referenceValue':
      return `{"reference":${JSON.stringify(relative(value.referenceValue))}}`;
    case 'geoPointValue':
      return `{"geopoint":[${double(value.geoPointValue.latitude)},${double(value.geoPointValue.longitude)}]}`;
    case 'arrayValue':
      return `{"array":[${(value.arrayValue.values ?? []).map(text).join(',')}]}`;
    case 'mapValue': {
      const members = value.mapValue.fields;
      if (!isVector(members)) return `{"map":${object(members)}}`;
      const items = members.value.arrayValue?.values ?? [];
      return `{"vector":[${items.map((item) => double(item.doubleValue)).join(',')}]}`;
    }
    default:
      throw new Error(`a value of an unknown type: ${JSON.stringify(value)}`);
  }
}

const stream = client.runQuery(
  {
    parent: root,
    structuredQuery: {
      from: [{ allDescendants: true }],
      orderBy: [{ field: { fieldPath: '__name__' }, direction: 'ASCENDING' }],
    },
  },
  { otherArgs: { headers: { authorization: 'Bearer owner' } } },
);
let lines = [];
const flush = () => {
  process.stdout.write(lines.join(''));
  lines = [];
};
for await (const { document } of stream) {
  if (!document) continue;
  const path = relative(document.name);
  if (flags.includes('--without-own') && path.split('/').some((part, index) => index % 2 === 0 && part === '_whimbrel')) continue;
  lines.push(`{"path":${JSON.stringify(path)},"fields":${object(document.fields)}}\n`);
  if (lines.length >= 1000) flush();
}
flush();
await client.close();

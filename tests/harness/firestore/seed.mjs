// Fills a project with the input of the tests, written by Google's own client: the same each time, six collections on three levels.
//
// Arguments: HOST PROJECT SCALE. Environment: WHIMBREL_NODE_MODULES, FIRESTORE_EMULATOR_HOST. At a scale of 1 it is more than 50,000
// documents, at less fewer, but every special one is always there: all types and their edges, fields of mixed types, absent against
// null, documents below missing ones on both levels, names and ids that somebody might take for something else.
// Output: a line `PATTERN<TAB>COUNT` a collection, ordered by name.
import { createRequire } from 'node:module';
import { join } from 'node:path';

const require = createRequire(join(process.env.WHIMBREL_NODE_MODULES, '@google-cloud/firestore/package.json'));
const { Firestore, GeoPoint, Timestamp, FieldValue } = require('@google-cloud/firestore');

const [, project, scaleText] = process.argv.slice(2);
const scale = Number(scaleText);
if (!(scale > 0)) throw new Error(`not a scale: ${scaleText}`);
const database = new Firestore({ projectId: project, useBigInt: true });
const writer = database.bulkWriter({ throttling: false });
writer.onWriteError((error) => {
  throw error;
});

// A double that is a whole number: the client would write a plain 1.0 as an integer, and takes values of its own classes as they are.
class Double extends GeoPoint {
  constructor(value) {
    super(0, 0);
    this.double = value;
  }
  toProto() {
    return { doubleValue: this.double };
  }
}
const double = (value) => (Number.isInteger(value) ? new Double(value) : value);

// Mulberry32 by Tommy Ettinger (public domain): 32 bits of state are plenty, and every run has the same input.
let state = 0x5eed;
function random() {
  state = (state + 0x6d2b79f5) | 0;
  let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
  mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
  return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
}
const below = (limit) => Math.floor(random() * limit);
const pick = (list) => list[below(list.length)];
const chance = (share) => random() < share;
const number = (index, width = 5) => String(index).padStart(width, '0');

const WORDS = ['wind', 'Brücke', 'fjord', '海', 'наука', 'curlew', 'naïve', 'Ωmega', '🐦', 'tide', 'marsh', 'estuary'];
const words = (count) => Array.from({ length: count }, () => pick(WORDS)).join(' ');
const instant = () => new Timestamp(1_500_000_000 + below(250_000_000), below(1_000_000) * 1_000);
const place = () => new GeoPoint(below(180_000_000) / 1e6 - 90, below(360_000_000) / 1e6 - 180);
const price = () => (chance(0.5) ? 1 + below(500) : double((1 + below(50_000)) / 100));

const IDS = [
  `O'Brien "the" quote`, '"; DROP TABLE users; --', 'a.b.c', 'back`tick', ' spaces around ', 'bird-🐦-日本語', 'caf\u00e9', 'cafe\u0301',
  'Twin', 'twin', 'TWIN', 'SELECT', 'null', 'true', '123', '-1', '1e5', 'a:b', 'a:b:c', 'a%3Ab', '%2F', '%', '*', 'users*', '[x]',
  '$where', 'back\\slash', 'new\nline', 'tab\there', 'x'.repeat(230), 'ü'.repeat(150), '__almost', 'almost__', '..a', '~', '{}',
  '#a?b=1&c', '<script>', '_whimbrel', '(default)',
];
const FIELDS = [
  `O'Brien "the" quote`, '"; DROP TABLE x; --', 'a.b.c', 'back`tick', ' spaces around ', 'bird-🐦-日本語', 'Twin', 'twin', 'TWIN',
  'SELECT', 'order', 'null', 'xmin', 'rowid', 'id', '_id', 'path', '__name', '123', 'a:b', '%2F', '%', '*', '[x]', '$type', '$absent',
  '$', 'back\\slash', 'new\nline', 'f'.repeat(210), 'ü'.repeat(120), '(', 'a/b', '#',
];

const counts = new Map();
function put(path, fields) {
  const pattern = path.map((part, index) => (index % 2 === 0 ? part : '*')).slice(0, -1).join('/');
  counts.set(pattern, (counts.get(pattern) ?? 0) + 1);
  let reference = database.collection(path[0]).doc(path[1]);
  for (let index = 2; index < path.length; index += 2) reference = reference.collection(path[index]).doc(path[index + 1]);
  // A failed write throws in `onWriteError` and ends the script.
  writer.create(reference, fields);
}
const doc = (collection, id) => database.collection(collection).doc(id);

// Pending writes hold their documents, so they are waited for now and then.
let sinceFlush = 0;
async function breathe() {
  sinceFlush += 1;
  if (sinceFlush % 200 === 0) await writer.flush();
}

const size = (count, least) => Math.max(least, Math.round(count * scale));
const USERS = size(6_000, 40);
const SHOPS = size(300, 10);
const EVENTS = size(12_000, 50);

const NICKS = [() => words(1), () => below(100), () => chance(0.5), () => null, () => ({ short: words(1), score: below(10) }), () => 0.5];

function user(index) {
  const fields = {
    name: words(2),
    active: chance(0.7),
    age: 18 + below(70),
    balance: chance(0.5) ? below(10_000) : double(below(1_000_000) / 100),
    score: double(below(1_000) / 4),
    created: instant(),
    nick: index % 3 === 0 ? NICKS[below(NICKS.length)]() : words(1),
    address: { street: words(2), zip: number(below(99_999)), lines: below(4), geo: { at: place(), since: instant() } },
    tags: Array.from({ length: below(4) }, () => words(1)),
    lucky: Array.from({ length: below(4) }, () => below(100)),
    embedding: FieldValue.vector(Array.from({ length: 4 }, () => below(1_000) / 8 - 60)),
  };
  // Absent, null and there are three things.
  if (index % 3 !== 0) fields.email = index % 3 === 1 ? `user${index}@example.org` : null;
  if (chance(0.2)) fields.manager = doc('users', `user-${number(below(USERS))}`);
  return fields;
}

function order() {
  const fields = {
    number: below(1_000_000),
    price: price(),
    placed: instant(),
    status: pick(['open', 'paid', 'sent', '']),
    shop: doc('shops', `shop-${number(below(SHOPS))}`),
    lines: [{ sku: words(1), count: below(5) }, { sku: words(1), price: double(below(100)) }].slice(0, below(3)),
  };
  if (chance(0.5)) fields.note = chance(0.5) ? words(5) : null;
  return fields;
}

const item = () => ({
  sku: `sku-${below(1_000)}`,
  quantity: 1 + below(9),
  price: price(),
  discount: double(below(10) / 10),
  options: { colour: words(1), sizes: [below(50), below(50)], gift: chance(0.1) },
});

const shop = () => ({
  name: words(3),
  location: place(),
  logo: Buffer.from(Array.from({ length: 8 + below(24) }, () => below(256))),
  opened: instant(),
  rating: double(below(50) / 10),
  hours: [double(8), double(18.5), null],
});

const review = () => ({
  stars: 1 + below(5),
  text: words(4 + below(20)),
  author: doc('users', `user-${number(below(USERS))}`),
  votes: Array.from({ length: below(5) }, () => (chance(0.1) ? null : below(2) === 1)),
});

const PAYLOADS = [
  () => null, () => chance(0.5), () => below(1_000), () => double(below(1_000)), () => below(1_000) / 7, () => words(3),
  () => Buffer.from(words(1)), () => instant(), () => place(), () => doc('users', `user-${number(below(USERS))}`),
  () => FieldValue.vector([double(1).double, 0.5]), () => [], () => [below(10), words(1), null, double(1), instant()], () => ({}),
  () => ({ a: { b: { c: [below(5), { d: words(1), e: [] }] } }, at: instant(), n: double(2), m: 2 }),
];

const event = (index) => ({
  kind: pick(['view', 'click', 'buy']),
  at: instant(),
  seq: index,
  ratio: random(),
  payload: PAYLOADS[index % PAYLOADS.length](),
});

// The edges of each type in a field that has this type in all documents.
const EDGES = {
  flag: [true, false, null],
  whole: [
    0, 1, -1, 2 ** 31, -(2 ** 31) - 1, 9_007_199_254_740_993n, -9_007_199_254_740_993n, 9_223_372_036_854_775_807n,
    -9_223_372_036_854_775_808n, null,
  ],
  real: [
    double(0), -0, double(1), double(-1), 0.1, 5e-324, 2.2250738585072014e-308, 1.7976931348623157e308, double(1e300), 1e-7,
    double(1e15), double(9_007_199_254_740_992), double(1e21), 1 / 3, NaN, Infinity, -Infinity, null,
  ],
  price: [0, double(0), 5, double(5), 0.1, 9_223_372_036_854_775_807n, double(1e22), 5e-324, NaN, Infinity, -Infinity, null],
  words: [
    '', ' ', 'plain', 'caf\u00e9', 'cafe\u0301', '日本語', '🐦‍⬛👩‍👩‍👧', '\u0000', 'a\u0000b', '\u0001\u001f\u007f\u0085', '\r\n\t', "'\"`\\", '\ufeff', '\uffff',
    '\u202eright to left', 'null', '1', 'true', '{"a":1}', '"; DROP TABLE x; --', 'long '.repeat(2_048), 'é'.repeat(5_000), null,
  ],
  octets: [Buffer.alloc(0), Buffer.from([0]), Buffer.from([0xff, 0xfe, 0, 1]), Buffer.alloc(10_240, 7), null],
  instant: [
    new Timestamp(0, 0), new Timestamp(-1, 999_999_000), new Timestamp(0, 1_000), new Timestamp(-62_135_596_800, 0),
    new Timestamp(253_402_300_799, 999_999_000), new Timestamp(1_709_164_800, 500_000_000), new Timestamp(-2_208_988_800, 0), null,
  ],
  point: [
    new GeoPoint(0, 0), new GeoPoint(90, 180), new GeoPoint(-90, -180), new GeoPoint(0.1, -0.1), new GeoPoint(52.520008, 13.404954), null,
  ],
  pointer: [
    doc('users', 'user-00000'), doc('users', 'nobody'), doc('users', 'a:b').collection('orders').doc('%2F'),
    doc('users', '"; DROP TABLE users; --'), doc('elsewhere', '日本語'), null,
  ],
  direction: [FieldValue.vector([0]), FieldValue.vector([1, -1.5, 0.1]), FieldValue.vector([5e-324, 1e300]), null],
  wholes: [[], [0], [1, null, -5, 9_223_372_036_854_775_807n], null],
  reals: [[], [double(1)], [0.5, NaN, null, double(3), -0, Infinity], null],
  texts: [[], [''], ['a', null, 'b"\\', '日本'], null],
  instants: [[], [new Timestamp(-62_135_596_800, 0), null, new Timestamp(0, 1_000)], null],
  points: [[], [new GeoPoint(1, 2), null], null],
  pointers: [[], [doc('users', 'a:b'), null], null],
  flags: [[], [true, null, false], null],
  blobs: [[], [Buffer.from([0, 255]), null, Buffer.alloc(0)], null],
  mixed: [[], [1, 'one', double(1), null, true, new Timestamp(1, 2_000), Buffer.from([1]), { a: [] }], null],
  maps: [[], [{}, { a: 1 }, { a: double(1), b: [1, { c: [] }] }], null],
  empties: [[], null],
  nothing: [null],
};
// Values of all types in a field that has no type, among them what looks like the form in which such values are kept.
const ANYTHING = [
  ...Object.values(EDGES).flat(),
  { $type: 'timestamp_tz', value: '2024-01-01T00:00:00Z' }, { $type: 5 }, { $type: { $type: null } }, { $value: 1 }, { $absent: ['a'] },
  Object.fromEntries(FIELDS.map((name, index) => [name, index])),
  { a: { a: { a: { a: { a: { a: { a: { a: { a: { a: { a: { a: { a: { a: { a: 'deep' } } } } } } } } } } } } } } },
  { deep: [{ deep: [{ deep: [double(-5), [1][0]] }] }], zero: -0, nan: NaN, big: 9_223_372_036_854_775_807n, tiny: 5e-324, huge: double(1e300) },
];

async function writeSpecial() {
  for (const [name, values] of Object.entries(EDGES)) {
    values.forEach((value, index) => put(['events', `edge-${name}-${number(index, 2)}`], { kind: 'edge', [`edge_${name}`]: value }));
  }
  ANYTHING.forEach((value, index) => put(['events', `any-${number(index, 3)}`], { payload: value }));
  put(['events', 'empty'], {});
  put(['events', 'absent'], { kind: 'only this' });
  for (const [index, id] of IDS.entries()) {
    put(['users', id], user(index));
    put(['users', id, 'orders', IDS[IDS.length - 1 - index]], order());
    put(['users', id, 'orders', id, 'items', id], item());
    put(['shops', id], shop());
    put(['events', id], { kind: 'hostile id' });
  }
  put(['shops', 'hostile fields'], { ...shop(), ...Object.fromEntries(FIELDS.map((name) => [name, `value of ${name}`])) });
  put(['shops', 'hostile nulls'], { ...shop(), ...Object.fromEntries(FIELDS.map((name) => [name, null])) });
  FIELDS.forEach((name) => put(['shops', `hostile ${FIELDS.indexOf(name)}`], { ...shop(), [name]: '' }));
  // Below documents that are not there: on the first level, on the second, and on both.
  for (let index = 0; index < size(200, 10); index += 1) {
    put(['users', `gone-${number(index)}`, 'orders', 'kept'], order());
    put(['users', 'user-00000', 'orders', `gone-${number(index)}`, 'items', 'kept'], item());
    put(['users', `gone-${number(index)}`, 'orders', 'gone', 'items', 'kept'], item());
    put(['shops', `gone-${number(index)}`, 'reviews', 'kept'], review());
    await breathe();
  }
}

async function writeMany() {
  for (let index = 0; index < USERS; index += 1) {
    const id = `user-${number(index)}`;
    put(['users', id], user(index));
    for (let place = 0; place < index % 4; place += 1) {
      put(['users', id, 'orders', `order-${place}`], order());
      for (let line = 0; line <= (index + place) % 3; line += 1) put(['users', id, 'orders', `order-${place}`, 'items', `${line}`], item());
    }
    await breathe();
  }
  for (let index = 0; index < SHOPS; index += 1) {
    const id = `shop-${number(index)}`;
    put(['shops', id], shop());
    for (let line = 0; line < 5 + (index % 30); line += 1) put(['shops', id, 'reviews', `review-${number(line, 3)}`], review());
    await breathe();
  }
  for (let index = 0; index < EVENTS; index += 1) {
    put(['events', `event-${number(index)}`], event(index));
    await breathe();
  }
}

await writeSpecial();
await writeMany();
await writer.close();
await database.terminate();
for (const [pattern, count] of [...counts].sort(([one], [other]) => (one < other ? -1 : 1))) console.log(`${pattern}\t${count}`);

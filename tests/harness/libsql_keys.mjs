// Makes an Ed25519 key and tokens of a libSQL server, one a line: the public key (for a key file), a token that may do
// everything, one that may only read, and one that has expired.
import { generateKeyPairSync, sign } from 'node:crypto';

const { publicKey, privateKey } = generateKeyPairSync('ed25519');
const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
const now = Math.floor(Date.now() / 1000);

function token(claims) {
  const content = `${part({ alg: 'EdDSA', typ: 'JWT' })}.${part(claims)}`;
  return `${content}.${sign(null, Buffer.from(content), privateKey).toString('base64url')}`;
}

console.log(publicKey.export({ format: 'jwk' }).x);
console.log(token({ a: 'rw', exp: now + 24 * 3600 }));
console.log(token({ a: 'ro', exp: now + 24 * 3600 }));
console.log(token({ a: 'rw', exp: now - 24 * 3600 }));

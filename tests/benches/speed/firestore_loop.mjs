// The plain loops that a one-off script would use: pages of 1,000 into lines, lines into batches of 500.
// node firestore_loop.mjs read|write PROJECT COLLECTION FILE; FIRESTORE_EMULATOR_HOST says where.
import { createReadStream, createWriteStream } from 'node:fs';
import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';

// Packages are found through the folder that the benchmark names, which is not above this file.
const { Firestore, FieldPath } = createRequire(process.env.WHIMBREL_NODE_MODULES + '/')('@google-cloud/firestore');

const [work, project, collection, file] = process.argv.slice(2);
const db = new Firestore({ projectId: project });
const PAGE = 1000;
const BATCH = 500;

async function read() {
    const out = createWriteStream(file);
    let last = null;
    let count = 0;
    for (;;) {
        let query = db.collection(collection).orderBy(FieldPath.documentId()).limit(PAGE);
        if (last) query = query.startAfter(last);
        const page = await query.get();
        for (const document of page.docs) {
            out.write(JSON.stringify({ __id__: document.id, ...document.data() }) + '\n');
        }
        count += page.size;
        if (page.size < PAGE) break;
        last = page.docs[page.size - 1];
    }
    await new Promise((done) => out.end(done));
    return count;
}

async function write() {
    let batch = db.batch();
    let open = 0;
    let count = 0;
    for await (const line of createInterface({ input: createReadStream(file) })) {
        const document = JSON.parse(line);
        batch.set(db.collection(collection).doc(document.id), document);
        open += 1;
        count += 1;
        if (open === BATCH) {
            await batch.commit();
            batch = db.batch();
            open = 0;
        }
    }
    if (open > 0) await batch.commit();
    return count;
}

console.log(work === 'read' ? await read() : await write());

// Fills localStorage with one of the sets below, then tells its server what the browser itself says of it: once as
// `JSON.stringify(localStorage)`, once as the UTF-16 units of every key and value, which no encoding can change.
//
// The address says what to do: `set` names the set, `frame` is an address to open in a frame first, `next` one to go to
// at the end. Served by browser.rs (Chromium) and by the script beside the Firefox fixture.

const ask = new URLSearchParams(location.search);
const at = (code) => String.fromCharCode(code);

// Half of a surrogate pair, in every place where one can stand.
function lone() {
  return {
    "half, high": "cut \ud83d",
    "half, low": "\udc26 cut",
    "half, wrong order": "\udc26\ud83d",
    "half, before a whole": "\ud83d\ud83d\udc26",
    "half, in JSON": '{"text":"cut \ud83d","n":1}',
    "half, escaped in JSON": '{"text":"cut \\ud83d","n":1}',
    "key \ud83d": "high half in the key",
    "\udc26:1": '{"title":"low half in a prefix"}',
    "note:\ud83d": '{"title":"high half in an id"}',
  };
}

function values() {
  return {
    "": "the key is empty",
    empty: "",
    space: " ",
    theme: "dark",
    latin: "na\u00efve caf\u00e9 \u00ff \u00a0 end",
    "caf\u00e9": "the key is Latin-1",
    "cafe\u0301": "the key has a combining accent",
    "\u9ce5": "\u6e21\u308a\u9ce5",
    "\ud83d\udc26": "a bird \ud83d\udc26 and a family \ud83d\udc68\u200d\ud83d\udc69\u200d\ud83d\udc67",
    nul: "a\0b\0",
    "nul\0key": "the key holds NUL",
    controls: Array.from({ length: 32 }, (_, code) => at(code)).join("") + "\u007f\u0080\u009f",
    edges: "\ud7ff\ue000\ufffd\ufeff\uffff\u2028\u2029",
    quotes: '"\\/\u0008\f\n\r\t\\u0041',
    number: "9007199254740993",
    "null": "null",
    nested: '{"a":{"b":[1,2.50,1e3,null,"\\u0000"]}}',
    "https://example.org/?q=1": "an address as a key",
    "_https://example.org": "a key like one of Chromium's own",
    "META:http://127.0.0.1": "another",
    big: "0123456789abcdef".repeat(65_536),
    wide: "\u6e21".repeat(100_000),
  };
}

const SETS = {
  // Written, overwritten, deleted, so that what lies on disk is more than what is there.
  first() {
    for (let round = 0; round < 3; round += 1) {
      for (let id = 0; id < 1_500; id += 1) {
        localStorage.setItem(`item:${id}`, JSON.stringify({ id, round, text: `item ${id} \u00fc`, tags: ["a", `${id % 7}`] }));
      }
    }
    for (let id = 0; id < 1_500; id += 3) localStorage.removeItem(`item:${id}`);
    localStorage.setItem("deleted", "gone");
    localStorage.setItem("deleted and back", "before");
    localStorage.removeItem("deleted");
    localStorage.removeItem("deleted and back");
    localStorage.setItem("deleted and back", "after");
    for (const [key, value] of Object.entries({ ...values(), ...lone() })) {
      localStorage.setItem(key, "overwritten");
      localStorage.setItem(key, value);
    }
    localStorage.setItem("todos", JSON.stringify([{ title: "count waders", done: false }, { title: "\u9ce5", done: true }]));
  },
  second() {
    localStorage.clear();
    for (let id = 0; id < 40; id += 1) {
      localStorage.setItem(`note:${id}`, JSON.stringify({ title: `note ${id}`, at: id / 8 }));
    }
    localStorage.setItem("theme", "light");
    localStorage.setItem("item:0", '{"id":"of the second origin"}');
  },
  // What `small` deletes and overwrites later, in another run of the browser: enough for LevelDB to make a table of it.
  earlier() {
    let noise = 1;
    const next = () => (noise = (noise * 48_271) % 2_147_483_647).toString(36);
    for (let id = 0; id < 90; id += 1) localStorage.setItem(`item:${id}`, Array.from({ length: 150 }, next).join(" "));
    for (const key of Object.keys(values())) localStorage.setItem(key, "of the first run");
    localStorage.setItem("deleted", "gone");
  },
  // Within 64 KiB, to be kept with the sources.
  small() {
    for (let id = 30; id < 90; id += 1) localStorage.removeItem(`item:${id}`);
    localStorage.removeItem("deleted");
    for (let id = 0; id < 30; id += 1) {
      localStorage.setItem(`item:${id}`, "overwritten");
      localStorage.setItem(`item:${id}`, JSON.stringify({ id, text: `item ${id} \u00fc`, tags: ["a", `${id % 7}`] }));
    }
    for (let id = 0; id < 30; id += 3) localStorage.removeItem(`item:${id}`);
    const short = Object.entries({ ...values(), ...lone() }).map(([key, value]) => [key, value.slice(0, 2_000)]);
    for (const [key, value] of short) localStorage.setItem(key, value);
  },
  framed() {
    localStorage.setItem("theme", "of the frame");
    localStorage.setItem("framed:1", '{"in":"a frame"}');
    localStorage.setItem("framed:2", '{"in":"a frame of another site"}');
  },
};

function entries() {
  return Array.from({ length: localStorage.length }, (_, index) => {
    const key = localStorage.key(index);
    return [key, localStorage.getItem(key)];
  });
}

const hex = (text) => Array.from({ length: text.length }, (_, index) => text.charCodeAt(index).toString(16).padStart(4, "0")).join("");

async function tell(what, body) {
  const answer = await fetch(`/told/${what}`, { method: "POST", body });
  if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
}

function frame(address) {
  const ended = new Promise((resolve) => addEventListener("message", resolve, { once: true }));
  const element = document.createElement("iframe");
  element.src = address;
  document.body.append(element);
  return ended;
}

addEventListener("load", async () => {
  try {
    if (ask.has("frame")) await frame(ask.get("frame"));
    SETS[ask.get("set")]();
    await tell("units", entries().map(([key, value]) => `${hex(key)} ${hex(value)}\n`).join(""));
    await tell("json", JSON.stringify(localStorage));
    if (ask.has("next")) location.replace(ask.get("next"));
    if (parent !== window) parent.postMessage("done", "*");
  } catch (error) {
    await tell("failure", String(error));
  }
});

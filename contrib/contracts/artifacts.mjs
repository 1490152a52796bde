// Writes what the program and others read of the contracts, out of forge's build:
//   artifacts/NAME.json             abi, creation and run-time code, places of immutables, storage layout
//   ../../engine/flow/slots.h       the storage slots that loam reads by proof
// `node artifacts.mjs --check` writes nothing and fails where the committed files differ from a fresh build.
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const here = path.dirname(fileURLToPath(import.meta.url));
const names = ['Accounts', 'Datanets', 'Models', 'Validators', 'Ledger', 'Disputes', 'Rewards'];
const check = process.argv.includes('--check');
let bad = 0;

function put(file, text) {
  const full = path.join(here, file);
  const old = fs.existsSync(full) ? fs.readFileSync(full, 'utf8') : null;
  if (old === text) return;
  if (check) {
    console.log(`differs from a fresh build: ${file}`);
    bad++;
  } else {
    fs.mkdirSync(path.dirname(full), { recursive: true });
    fs.writeFileSync(full, text);
    console.log(`wrote ${file}`);
  }
}

let slots = `/* Written by contrib/contracts/artifacts.mjs from the compiler's storage layout; do not edit.
 * Slot of each state variable, and of each struct's member the word, the byte offset from the word's low end and the
 * size in bytes: SLOT_ (and BYTE_, where a variable shares its slot and does not begin at the low end), WORD_, AT_, SIZE_. */
#ifndef LOAM_FLOW_SLOTS_H
#define LOAM_FLOW_SLOTS_H

`;
const up = (s) => s.replace(/^_/, '').replace(/([a-z])([A-Z])/g, '$1_$2').toUpperCase();
for (const name of names) {
  const j = JSON.parse(fs.readFileSync(path.join(here, 'out', `${name}.sol`, `${name}.json`), 'utf8'));
  const layout = {
    storage: j.storageLayout.storage.map(({ label, slot, offset, type }) => ({ label, slot, offset, type })),
    types: {},
  };
  // The compiler numbers its syntax trees by build; the numbers say nothing and are taken off.
  const plain = (t) => t.replace(/\)\d+_storage/g, ')').replace(/\((\w+)\)\d+/g, '($1)');
  for (const s of layout.storage) s.type = plain(s.type);
  for (const [k, v] of Object.entries(j.storageLayout.types ?? {}).sort(([a], [b]) => (a < b ? -1 : 1))) {
    layout.types[plain(k)] = {
      bytes: v.numberOfBytes,
      ...(v.key ? { key: plain(v.key), value: plain(v.value) } : {}),
      ...(v.members
        ? { members: v.members.map((m) => ({ label: m.label, slot: m.slot, offset: m.offset, type: plain(m.type) })) }
        : {}),
    };
  }
  // References by ascending place instead of by syntax tree number.
  const refs = Object.values(j.deployedBytecode.immutableReferences ?? {}).flat().sort((a, b) => a.start - b.start);
  put(`artifacts/${name}.json`, JSON.stringify({
    contract: name,
    compiler: j.metadata?.compiler?.version ?? '',
    abi: j.abi,
    bytecode: j.bytecode.object,
    deployedBytecode: j.deployedBytecode.object,
    immutables: refs,
    storage: layout,
  }, null, 1) + '\n');

  slots += `/* ${name} */\n`;
  for (const s of layout.storage) {
    slots += `#define SLOT_${up(name)}_${up(s.label)} ${s.slot}\n`;
    if (s.offset !== 0) slots += `#define BYTE_${up(name)}_${up(s.label)} ${s.offset}\n`;
  }
  const seen = new Set();
  for (const [k, v] of Object.entries(layout.types)) {
    if (!v.members) continue;
    const sn = /struct\((?:\w+\.)?(\w+)\)/.exec(k)[1];
    if (seen.has(sn)) continue;
    seen.add(sn);
    for (const m of v.members) {
      const id = `${up(name)}_${up(sn)}_${up(m.label)}`;
      slots += `#define WORD_${id} ${m.slot}\n#define AT_${id} ${m.offset}\n#define SIZE_${id} ${layout.types[m.type].bytes}\n`;
    }
  }
  slots += '\n';
}
put('../../engine/flow/slots.h', slots + '#endif\n');
if (check && !bad) console.log(`artifacts of ${names.length} contracts are as built`);
process.exit(bad ? 1 : 0);

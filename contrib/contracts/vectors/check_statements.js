// Checks statements.json (written by gen_statements, i.e. by our C) with ethers: digests, struct hashes, ABI forms, signers.
// Needs `npm ci` in contrib/contracts.
const { TypedDataEncoder, AbiCoder, verifyTypedData } = require("ethers");
const v = JSON.parse(require("fs").readFileSync(require("path").join(__dirname, "statements.json")));
let bad = 0;
const same = (what, name, a, b) => {
    if (a !== b) {
        bad++;
        console.error(`${name}: ${what} is ${b}, ethers says ${a}`);
    }
};
for (const s of v.statements) {
    const { domain, types, message, primaryType } = s.typed;
    const own = { [primaryType]: types[primaryType] };
    const fields = types[primaryType];
    const dynamic = fields.some((f) => f.type === "string");
    const abi = AbiCoder.defaultAbiCoder().encode([`tuple(${fields.map((f) => `${f.type} ${f.name}`).join(",")})`], [message]);
    same("digest", s.name, TypedDataEncoder.hash(domain, own, message), s.digest);
    same("struct hash", s.name, TypedDataEncoder.hashStruct(primaryType, own, message), s.structHash);
    // ethers puts a dynamic tuple behind its offset; the stored form has none
    same("ABI form", s.name, dynamic ? "0x" + abi.slice(66) : abi, s.abi);
    same("signer", s.name, verifyTypedData(domain, own, message, s.signature), v.signer);
}
console.log(`statements: ${v.statements.length} checked with ethers, ${bad} differences`);
process.exit(bad ? 1 : 0);

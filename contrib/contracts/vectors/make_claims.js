// Writes tests/vectors/oz_roots.inc: roots of claim trees by OpenZeppelin's own library, for tests/test_record.c.
// Needs `npm install` in contrib/contracts. Line i: account 3 i, cumulative ((i + 1) * 1000000007)^2.
const { StandardMerkleTree } = require("@openzeppelin/merkle-tree");
for (const n of [1, 2, 3, 4, 5, 6, 7, 8, 13, 32, 100]) {
    const lines = [];
    let prefix = 0n;
    for (let i = 0n; i < BigInt(n); i++) {
        const wei = ((i + 1n) * 1000000007n) ** 2n;
        lines.push([i, 3n * i, prefix, wei].map(String));
        prefix += wei;
    }
    const tree = StandardMerkleTree.of(lines, ["uint64", "uint64", "uint256", "uint256"]);
    console.log(`        {${n}, "${tree.root}"},`);
}

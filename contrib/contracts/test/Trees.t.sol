// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Base, TreesHarness} from "./Base.sol";

contract TreesTest is Base {
    TreesHarness harness = new TreesHarness();

    function setUp() public override {}

    function leaves(uint256 n) private pure returns (bytes[] memory l) {
        l = new bytes[](n);
        for (uint256 i = 0; i < n; i++) l[i] = abi.encode(i, keccak256(abi.encode(i)));
    }

    function test_EveryLeafOfEverySizeProves() public view {
        for (uint256 n = 1; n <= 17; n++) {
            bytes[] memory l = leaves(n);
            bytes32 root = treeRoot(l);
            for (uint256 i = 0; i < n; i++) {
                bytes32[] memory p = treeProof(l, i);
                require(harness.has(root, uint64(n), uint64(i), l[i], p), "true leaf");
                require(!harness.has(root, uint64(n + 1), uint64(i), l[i], p), "other count");
                for (uint256 j = 0; j < n; j++) {
                    if (j != i) require(!harness.has(root, uint64(n), uint64(j), l[i], p), "other place");
                }
            }
        }
    }

    function testFuzz_NoForgedLeaf(uint8 size, uint8 place, bytes calldata data) public view {
        uint256 n = uint256(size) % 40 + 1;
        uint256 i = uint256(place) % n;
        bytes[] memory l = leaves(n);
        vm.assume(keccak256(data) != keccak256(l[i]));
        require(!harness.has(treeRoot(l), uint64(n), uint64(i), data, treeProof(l, i)), "forged");
    }

    function test_ProofLengthIsFixed() public view {
        bytes[] memory l = leaves(5);
        bytes32[] memory p = treeProof(l, 4); // the odd one: a single sibling
        eq(p.length, 1, "length");
        bytes32[] memory longer = new bytes32[](2);
        longer[0] = p[0];
        require(!harness.has(treeRoot(l), 5, 4, l[4], longer), "longer");
        require(!harness.has(treeRoot(l), 5, 4, l[4], new bytes32[](0)), "shorter");
        require(!harness.has(treeRoot(l), 5, 5, l[4], p), "past the end");
    }
}

// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// The position-ordered keccak tree of contrib/doc/protocol.md: leaf keccak(00 ‖ bytes), node keccak(01 ‖ left ‖ right),
/// an odd last node moves up as it is, root keccak(02 ‖ u64be count ‖ top). The root commits the count, so a position
/// proves absence and uniqueness too.
library Trees {
    function leaf(bytes memory data) internal pure returns (bytes32) {
        return keccak256(abi.encodePacked(bytes1(0x00), data));
    }

    function root(uint64 count, bytes32 top) internal pure returns (bytes32) {
        return keccak256(abi.encodePacked(bytes1(0x02), count, top));
    }

    /// True if `data` stands at `index` of the tree with this root and count. Siblings come bottom up, one for every
    /// level on which the node has one; a proof with one too few or too many is no proof.
    function has(bytes32 root_, uint64 count, uint64 index, bytes memory data, bytes32[] calldata proof)
        internal
        pure
        returns (bool)
    {
        if (index >= count) return false;
        bytes32 node = leaf(data);
        uint256 place = index;
        uint256 width = count;
        uint256 used = 0;
        while (width > 1) {
            if (place ^ 1 < width) {
                if (used == proof.length) return false;
                bytes32 sibling = proof[used++];
                node = place & 1 == 0
                    ? keccak256(abi.encodePacked(bytes1(0x01), node, sibling))
                    : keccak256(abi.encodePacked(bytes1(0x01), sibling, node));
            }
            place >>= 1;
            width = (width + 1) >> 1;
        }
        return used == proof.length && root(count, node) == root_;
    }
}

// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {MerkleProof} from "@openzeppelin/contracts/utils/cryptography/MerkleProof.sol";
import * as S from "./Statements.sol";
import {Trees} from "./Trees.sol";

interface ILedger {
    function requireOpen(uint64 batch, bytes32 statement) external view;
    function slashBatch(uint64 batch, address by, string calldata proof) external;
}

/// Proofs of falsehood that a contract can check whole: each shows leaves under roots the poster signed, and a statement
/// about them that cannot hold. What is shown is slashed at once; what is not false reverts with NotFalse.
contract Disputes {
    struct Leaf {
        uint64 index;
        uint64 account;
        uint256 prefix; // sum of the cumulative amounts before it
        uint256 cumulative;
    }

    error NotInTree();
    error NotFalse();

    ILedger public immutable ledger;

    constructor(ILedger ledger_) {
        ledger = ledger_;
    }

    /// Two neighbours in the payout tree: positions, ascending accounts, prefix sums.
    function proveSum(
        uint64 batch,
        S.Batch calldata b,
        uint64 place,
        Leaf calldata x,
        bytes32[] calldata xProof,
        Leaf calldata y,
        bytes32[] calldata yProof
    ) external {
        _open(batch, b);
        _payout(b, place, x, xProof);
        _payout(b, place + 1, y, yProof);
        (bool fits, uint256 sum) = _add(x.prefix, x.cumulative);
        if (x.index == place && y.index == place + 1 && x.account < y.account && fits && sum == y.prefix) revert NotFalse();
        ledger.slashBatch(batch, msg.sender, "sum");
    }

    /// The first leaf's prefix is 0; the last one's prefix and amount make the stated total.
    function proveEnd(uint64 batch, S.Batch calldata b, uint64 place, Leaf calldata x, bytes32[] calldata proof)
        external
    {
        _open(batch, b);
        _payout(b, place, x, proof);
        (bool fits, uint256 sum) = _add(x.prefix, x.cumulative);
        if (
            x.index == place && !(place == 0 && x.prefix != 0)
                && !(place == b.payoutCount - 1 && (!fits || sum != b.payoutTotal))
        ) revert NotFalse();
        ledger.slashBatch(batch, msg.sender, "end");
    }

    /// An account's cumulative amount is lower than in the root this batch is chained to.
    function proveDecrease(
        uint64 batch,
        S.Batch calldata b,
        uint64 oldCount,
        uint64 oldAt,
        Leaf calldata old,
        bytes32[] calldata oldProof,
        uint64 place,
        Leaf calldata now_,
        bytes32[] calldata proof
    ) external {
        _open(batch, b);
        _old(b, oldCount, oldAt, old, oldProof);
        _payout(b, place, now_, proof);
        if (now_.account != old.account || now_.cumulative >= old.cumulative) revert NotFalse();
        ledger.slashBatch(batch, msg.sender, "decrease");
    }

    /// An account of the old root is missing in the new one: it would stand between two neighbours.
    function proveMissing(
        uint64 batch,
        S.Batch calldata b,
        uint64 oldCount,
        uint64 oldAt,
        Leaf calldata old,
        bytes32[] calldata oldProof,
        uint64 place,
        Leaf calldata left,
        bytes32[] calldata leftProof,
        Leaf calldata right,
        bytes32[] calldata rightProof
    ) external {
        _open(batch, b);
        _old(b, oldCount, oldAt, old, oldProof);
        _payout(b, place, left, leftProof);
        _payout(b, place + 1, right, rightProof);
        if (left.account >= old.account || right.account <= old.account) revert NotFalse();
        ledger.slashBatch(batch, msg.sender, "missing");
    }

    /// The same where it would stand before the first or after the last.
    function proveMissingEnd(
        uint64 batch,
        S.Batch calldata b,
        uint64 oldCount,
        uint64 oldAt,
        Leaf calldata old,
        bytes32[] calldata oldProof,
        uint64 place,
        Leaf calldata end,
        bytes32[] calldata proof
    ) external {
        _open(batch, b);
        _old(b, oldCount, oldAt, old, oldProof);
        _payout(b, place, end, proof);
        if (
            !(place == 0 && end.account > old.account) && !(place == b.payoutCount - 1 && end.account < old.account)
        ) revert NotFalse();
        ledger.slashBatch(batch, msg.sender, "missing");
    }

    /// Sequence numbers run on without gap or repeat, and every call is the poster's own.
    function proveSequence(
        uint64 batch,
        S.Batch calldata b,
        uint64 place,
        S.Inference calldata i,
        bytes32[] calldata proof
    ) external {
        _open(batch, b);
        _has(b.inferenceRoot, b.callCount, place, S.Statements.hash(i), proof);
        if (i.sequence == b.firstSequence + place && i.server == b.poster) revert NotFalse();
        ledger.slashBatch(batch, msg.sender, "sequence");
    }

    /// A call answers the request at its place and takes no more than that allows.
    function proveFee(
        uint64 batch,
        S.Batch calldata b,
        uint64 place,
        S.Request calldata r,
        bytes32[] calldata rProof,
        S.Inference calldata i,
        bytes32[] calldata iProof
    ) external {
        _open(batch, b);
        bytes32 h = S.Statements.hash(r);
        _has(b.requestRoot, b.callCount, place, h, rProof);
        _has(b.inferenceRoot, b.callCount, place, S.Statements.hash(i), iProof);
        if (
            i.requestHash == h && i.fee <= r.maxFee && r.server == b.poster && i.model == r.model
                && i.promptCommitment == r.promptCommitment
        ) revert NotFalse();
        ledger.slashBatch(batch, msg.sender, "fee");
    }

    /// An attribution speaks of the call at its place.
    function proveLink(
        uint64 batch,
        S.Batch calldata b,
        uint64 place,
        bytes32 inferenceHash,
        bytes32[] calldata iProof,
        S.Attribution calldata a,
        bytes32[] calldata aProof
    ) external {
        _open(batch, b);
        _has(b.inferenceRoot, b.callCount, place, inferenceHash, iProof);
        _has(b.attributionRoot, b.callCount, place, S.Statements.hash(a), aProof);
        if (a.inferenceHash == inferenceHash) revert NotFalse();
        ledger.slashBatch(batch, msg.sender, "link");
    }

    /// A root's own count differs from the stated one. Trees: 0 requests, 1 inferences, 2 attributions, 3 payouts.
    function proveCount(uint64 batch, S.Batch calldata b, uint8 tree, uint64 count, bytes32 top) external {
        _open(batch, b);
        bytes32 root = tree == 0
            ? b.requestRoot
            : tree == 1 ? b.inferenceRoot : tree == 2 ? b.attributionRoot : b.payoutRoot;
        if (Trees.root(count, top) != root) revert NotInTree();
        if (count == (tree == 3 ? b.payoutCount : b.callCount) || tree > 3) revert NotFalse();
        ledger.slashBatch(batch, msg.sender, "count");
    }

    /// The claim tree must hold the payout tree's leaves.
    function proveClaim(
        uint64 batch,
        S.Batch calldata b,
        Leaf calldata claim,
        bytes32[] calldata claimProof,
        Leaf calldata payout,
        bytes32[] calldata proof
    ) external {
        _open(batch, b);
        bytes32 leaf = keccak256(
            bytes.concat(keccak256(abi.encode(claim.index, claim.account, claim.prefix, claim.cumulative)))
        );
        if (!MerkleProof.verifyCalldata(claimProof, b.claimRoot, leaf)) revert NotInTree();
        // A claim leaf whose index lies outside the payout tree is false by itself.
        if (claim.index < b.payoutCount) {
            _payout(b, claim.index, payout, proof);
            if (
                claim.index == payout.index && claim.account == payout.account && claim.prefix == payout.prefix
                    && claim.cumulative == payout.cumulative
            ) revert NotFalse();
        }
        ledger.slashBatch(batch, msg.sender, "claim");
    }

    function _open(uint64 batch, S.Batch calldata b) private view {
        ledger.requireOpen(batch, S.Statements.hash(b));
    }

    function _payout(S.Batch calldata b, uint64 place, Leaf calldata x, bytes32[] calldata proof) private pure {
        if (!Trees.has(b.payoutRoot, b.payoutCount, place, _bytes(x), proof)) revert NotInTree();
    }

    function _old(
        S.Batch calldata b,
        uint64 oldCount,
        uint64 oldAt,
        Leaf calldata old,
        bytes32[] calldata oldProof
    ) private pure {
        if (!Trees.has(b.previousPayoutRoot, oldCount, oldAt, _bytes(old), oldProof)) revert NotInTree();
    }

    function _has(bytes32 root, uint64 count, uint64 place, bytes32 data, bytes32[] calldata proof) private pure {
        if (!Trees.has(root, count, place, abi.encode(data), proof)) revert NotInTree();
    }

    function _bytes(Leaf calldata x) private pure returns (bytes memory) {
        return abi.encode(x.index, x.account, x.prefix, x.cumulative);
    }

    function _add(uint256 x, uint256 y) private pure returns (bool fits, uint256 sum) {
        unchecked {
            sum = x + y;
            fits = sum >= x;
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {MerkleProof} from "@openzeppelin/contracts/utils/cryptography/MerkleProof.sol";
import {ReentrancyGuard} from "@openzeppelin/contracts/utils/ReentrancyGuard.sol";
import {IAccounts} from "./Signed.sol";

/// The pots. Every poster has his own, filled only by his own settled batches; a claim is paid out of the pot whose root
/// proves it, and never more than was settled into that pot. So a bad root drains nobody but its poster.
contract Rewards is ReentrancyGuard {
    struct Pot {
        uint256 settled; // ever paid in
        uint256 claimed; // ever paid out
        bytes32 payoutRoot; // the poster's chained cumulative root
        bytes32 claimRoot; // the same leaves as an OpenZeppelin tree
    }

    error NotLedger();
    error WrongValue();
    error BadProof();
    error NothingDue();
    error PotEmpty(uint64 poster);
    error NoPayout(uint64 account);
    error PaymentFailed(address to);

    event Settled(uint64 indexed poster, bytes32 payoutRoot, bytes32 claimRoot, uint256 added, uint256 settled);
    event Claimed(uint64 indexed poster, uint64 indexed account, address to, uint256 amount, uint256 cumulative);

    IAccounts public immutable accounts;
    address public immutable ledger;
    mapping(uint64 => Pot) public pots;
    mapping(uint64 => mapping(uint64 => uint256)) public paid; // poster, account

    constructor(IAccounts accounts_, address ledger_) {
        accounts = accounts_;
        ledger = ledger_;
    }

    function settle(uint64 poster, bytes32 payoutRoot, bytes32 claimRoot, uint256 payoutTotal) external payable {
        if (msg.sender != ledger) revert NotLedger();
        Pot storage p = pots[poster];
        if (p.settled + msg.value != payoutTotal) revert WrongValue();
        p.settled = payoutTotal;
        p.payoutRoot = payoutRoot;
        p.claimRoot = claimRoot;
        emit Settled(poster, payoutRoot, claimRoot, msg.value, payoutTotal);
    }

    /// Anybody may bring a claim; the coins go to the account's payout address.
    function claim(
        uint64 poster,
        uint64 index,
        uint64 account,
        uint256 prefix,
        uint256 cumulative,
        bytes32[] calldata proof
    ) external nonReentrant returns (uint256 amount) {
        Pot storage p = pots[poster];
        bytes32 leaf = keccak256(bytes.concat(keccak256(abi.encode(index, account, prefix, cumulative))));
        if (p.claimRoot == 0 || !MerkleProof.verifyCalldata(proof, p.claimRoot, leaf)) revert BadProof();
        uint256 before = paid[poster][account];
        if (cumulative <= before) revert NothingDue();
        amount = cumulative - before;
        if (amount > p.settled - p.claimed) revert PotEmpty(poster);
        address to = accounts.payoutOf(account);
        if (to == address(0)) revert NoPayout(account);
        paid[poster][account] = cumulative;
        p.claimed += amount;
        emit Claimed(poster, account, to, amount, cumulative);
        (bool ok,) = to.call{value: amount}("");
        if (!ok) revert PaymentFailed(to);
    }

    function settledOf(uint64 poster) external view returns (uint256) {
        return pots[poster].settled;
    }

    function payoutRootOf(uint64 poster) external view returns (bytes32) {
        return pots[poster].payoutRoot;
    }
}

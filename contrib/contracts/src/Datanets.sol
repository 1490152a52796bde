// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IAccounts, Signed} from "./Signed.sol";
import * as S from "./Statements.sol";
import {Trees} from "./Trees.sol";

/// Datanets and what was contributed to them. A contribution is committed first (a salted hash) and revealed in a later
/// block, so that nobody copies it from the pool; the order of the commitments decides whose row was first.
contract Datanets is Signed {
    struct Datanet {
        uint64 owner;
        bytes32 statement; // struct hash
    }

    struct Commit {
        uint64 order; // from 1, over all datanets
        uint64 blockNumber;
        uint64 time;
    }

    struct Contribution {
        uint64 account;
        uint64 datanet;
        uint64 order;
        uint64 rowCount;
        uint64 voided; // rows found to be copies
        bytes32 rowRoot;
        bytes32 statement;
    }

    error BadName();
    error NoDatanet(uint64 datanet);
    error NotCommitted();
    error TooEarly();
    error TooLate(uint64 until);
    error NoContribution(uint64 contribution);
    error NotEarlier();
    error BadProof();
    error AlreadyVoid();
    error Empty();

    event DatanetCreated(uint64 indexed datanet, uint64 indexed owner, string name, string licence, bytes32 termsHash);
    event Committed(bytes32 indexed commitment, uint64 order);
    event Contributed(
        uint64 indexed contribution,
        uint64 indexed datanet,
        uint64 indexed account,
        uint64 order,
        bytes32 rowRoot,
        uint64 rowCount,
        string licence,
        bytes32 dataHash,
        uint64 dataLength,
        string dataLocator
    );
    event DuplicateVoided(
        uint64 indexed earlier, uint64 earlierIndex, uint64 indexed later, uint64 laterIndex, bytes32 rowHash
    );

    uint64 public immutable revealWindow; // seconds after the commitment
    uint64 public datanetCount; // numbers are 1 … datanetCount
    uint64 public contributionCount;
    uint64 public commitCount;
    mapping(uint64 => Datanet) public datanets;
    mapping(uint64 => Contribution) public contributions;
    mapping(bytes32 => Commit) public commits;
    mapping(uint64 => mapping(uint64 => bool)) public rowVoid; // contribution, index

    constructor(IAccounts accounts_, uint64 revealWindow_) Signed(accounts_) {
        revealWindow = revealWindow_;
    }

    function create(S.Datanet calldata d, bytes calldata sig) external returns (uint64 id) {
        if (bytes(d.name).length == 0 || bytes(d.name).length > 64 || bytes(d.licence).length > 64) revert BadName();
        bytes32 h = S.Statements.hash(d);
        _take(d.owner, h, d.nonce, d.expiry, sig);
        id = ++datanetCount;
        datanets[id] = Datanet(d.owner, h);
        emit DatanetCreated(id, d.owner, d.name, d.licence, d.termsHash);
    }

    /// Whoever sends a commitment first fixes its time; it binds the account inside, so sending a stranger's helps him.
    function commit(bytes32 commitment) external {
        Commit storage c = commits[commitment];
        if (c.order != 0) return;
        commits[commitment] = Commit(++commitCount, uint64(block.number), uint64(block.timestamp));
        emit Committed(commitment, commitCount);
    }

    function reveal(S.Contribution calldata c, bytes32 salt, bytes calldata sig) external returns (uint64 id) {
        if (c.datanet == 0 || c.datanet > datanetCount) revert NoDatanet(c.datanet);
        if (c.rowCount == 0) revert Empty();
        bytes32 h = S.Statements.hash(c);
        Commit memory m = commits[keccak256(abi.encode(h, salt))];
        if (m.order == 0) revert NotCommitted();
        if (block.number <= m.blockNumber) revert TooEarly();
        if (block.timestamp > m.time + revealWindow) revert TooLate(m.time + revealWindow);
        _take(c.account, h, c.nonce, c.expiry, sig);
        id = ++contributionCount;
        contributions[id] = Contribution(c.account, c.datanet, m.order, c.rowCount, 0, c.rowRoot, h);
        emit Contributed(
            id, c.datanet, c.account, m.order, c.rowRoot, c.rowCount, c.licence, c.dataHash, c.dataLength, c.dataLocator
        );
    }

    /// The same row in two contributions (or twice in one): the one committed later is void, and trainers leave it out.
    function challengeDuplicate(
        bytes32 rowHash,
        uint64 earlier,
        uint64 earlierIndex,
        bytes32[] calldata earlierProof,
        uint64 later,
        uint64 laterIndex,
        bytes32[] calldata laterProof
    ) external {
        Contribution storage e = contributions[earlier];
        Contribution storage l = contributions[later];
        if (e.order == 0) revert NoContribution(earlier);
        if (l.order == 0) revert NoContribution(later);
        if (e.order > l.order || (earlier == later && earlierIndex >= laterIndex)) revert NotEarlier();
        if (e.order == l.order && earlier != later) revert NotEarlier();
        if (
            !Trees.has(e.rowRoot, e.rowCount, earlierIndex, abi.encodePacked(rowHash, e.account), earlierProof)
                || !Trees.has(l.rowRoot, l.rowCount, laterIndex, abi.encodePacked(rowHash, l.account), laterProof)
        ) revert BadProof();
        if (rowVoid[later][laterIndex]) revert AlreadyVoid();
        rowVoid[later][laterIndex] = true;
        l.voided++;
        emit DuplicateVoided(earlier, earlierIndex, later, laterIndex, rowHash);
    }
}

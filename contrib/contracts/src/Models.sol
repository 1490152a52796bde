// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Blockhash} from "@openzeppelin/contracts/utils/Blockhash.sol";
import {IAccounts, Signed} from "./Signed.sol";
import * as S from "./Statements.sol";

/// Recipe first, seed from a later block, then the training it led to: so the seed cannot be chosen.
contract Models is Signed {
    struct Model {
        uint64 trainer;
        uint64 seedBlock;
        uint32 redraws; // how often the seed's block was missed: waiting for another is seen
        bool published;
        bytes32 recipe; // struct hash
        bytes32 dataRoot;
        bytes32 seed; // 0 until fixed
        bytes32 training; // struct hash, 0 until published
        bytes32 adapterHash;
        bytes32 rowsRoot;
    }

    error NoModel(uint64 model);
    error SeedFixed();
    error TooEarly(uint64 seedBlock);
    error NotTrainer(uint64 account);
    error Mismatch();
    error AlreadyPublished();

    event RecipeRecorded(
        uint64 indexed model, uint64 indexed trainer, bytes32 recipe, bytes32 dataRoot, uint64 dataCount, uint64 seedBlock
    );
    event SeedFixedFor(uint64 indexed model, bytes32 seed, uint64 seedBlock);
    event SeedMissed(uint64 indexed model, uint64 missedBlock, uint64 seedBlock);
    event Published(uint64 indexed model, uint64 indexed trainer, bytes32 training, S.Training statement);

    uint64 public immutable seedDelay; // blocks
    uint64 public modelCount;
    mapping(uint64 => Model) public models;

    constructor(IAccounts accounts_, uint64 seedDelay_) Signed(accounts_) {
        seedDelay = seedDelay_;
    }

    function recipe(S.Recipe calldata r, bytes calldata sig) external returns (uint64 id) {
        bytes32 h = S.Statements.hash(r);
        _take(r.trainer, h, r.nonce, r.expiry, sig);
        id = ++modelCount;
        Model storage m = models[id];
        m.trainer = r.trainer;
        m.recipe = h;
        m.dataRoot = r.dataRoot;
        m.seedBlock = uint64(block.number) + seedDelay;
        emit RecipeRecorded(id, r.trainer, h, r.dataRoot, r.dataCount, m.seedBlock);
    }

    /// seed = keccak(recipe, data root, hash of the seed's block). Anybody may call; a missed block is counted and replaced.
    function fixSeed(uint64 model) external returns (bytes32 seed) {
        Model storage m = models[model];
        if (m.trainer == 0) revert NoModel(model);
        if (m.seed != 0) revert SeedFixed();
        if (block.number <= m.seedBlock) revert TooEarly(m.seedBlock);
        bytes32 b = Blockhash.blockHash(m.seedBlock);
        if (b == 0) {
            uint64 missed = m.seedBlock;
            m.seedBlock = uint64(block.number) + seedDelay;
            m.redraws++;
            emit SeedMissed(model, missed, m.seedBlock);
            return 0;
        }
        seed = keccak256(abi.encode(m.recipe, m.dataRoot, b));
        m.seed = seed;
        emit SeedFixedFor(model, seed, m.seedBlock);
    }

    function publish(S.Training calldata t, bytes calldata sig) external {
        Model storage m = models[t.model];
        if (m.trainer == 0) revert NoModel(t.model);
        if (m.trainer != t.trainer) revert NotTrainer(t.trainer);
        if (m.published) revert AlreadyPublished();
        if (m.seed == 0 || t.seed != m.seed || t.recipeHash != m.recipe) revert Mismatch();
        bytes32 h = S.Statements.hash(t);
        _take(t.trainer, h, t.nonce, t.expiry, sig);
        m.published = true;
        m.training = h;
        m.adapterHash = t.adapterHash;
        m.rowsRoot = t.rowsRoot;
        emit Published(t.model, t.trainer, h, t);
    }

    function published(uint64 model) external view returns (bool) {
        return models[model].published;
    }
}

// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Blockhash} from "@openzeppelin/contracts/utils/Blockhash.sol";
import {ReentrancyGuard} from "@openzeppelin/contracts/utils/ReentrancyGuard.sol";
import {IAccounts, Signed} from "./Signed.sol";
import * as S from "./Statements.sol";
import {Trees} from "./Trees.sol";

interface IValidators {
    function committee(bytes32 seed, uint256 size, uint64 except, uint64 before)
        external
        view
        returns (uint64[] memory drawn, uint256[] memory weights);
    function slash(uint64 account, uint256 amount) external returns (uint256 taken);
}

interface IRewards {
    function settle(uint64 poster, bytes32 payoutRoot, bytes32 claimRoot, uint256 payoutTotal) external payable;
    function settledOf(uint64 poster) external view returns (uint256);
    function payoutRootOf(uint64 poster) external view returns (bytes32);
}

/// Escrow, batches and their validation. A batch goes posted → drawn → settled, or is voided by a quorum (once it may be
/// posted again), or slashed by a proof that a contract checked. No parameter ever changes: all are immutable.
contract Ledger is Signed, ReentrancyGuard {
    struct Params {
        uint64 drawDelay; // blocks from posting to the block whose hash draws the committee
        uint64 commitWindow; // seconds from here on
        uint64 revealWindow;
        uint64 challengeWindow; // from posting; no batch settles earlier
        uint64 demandWindow;
        uint64 escrowDelay;
        uint256 minBond; // wei from here on
        uint256 voidPenalty; // burnt of the bond of a voided batch
        uint256 demandDeposit; // goes to the poster who answers
        uint256 validatorPenalty;
        uint16 committeeSize;
        uint16 voidQuorum; // of 10000 parts of the drawn stake
    }

    enum State {
        None,
        Posted,
        Drawn,
        Settled,
        Voided,
        Slashed
    }

    struct Entry {
        bytes32 statement; // struct hash of the Batch
        uint64 poster;
        State state;
        uint64 postedAt;
        uint64 postedBlock;
        uint64 drawBlock; // word 2 begins
        uint64 commitEnd; // moved to the present when the last drawn validator has committed
        uint64 revealEnd;
        uint16 drawn;
        uint16 committed;
        uint16 revealed;
        bool traceOpen;
        uint256 bond;
        uint256 weight; // drawn stake
        uint256 weightValid;
        uint256 weightInvalid;
        bytes32 traceRoot;
    }

    struct Seat {
        uint256 weight; // 0: not drawn
        bytes32 commitment;
        bytes32 traceRoot;
        uint8 verdict; // 0 not revealed, 1 valid, 2 invalid
    }

    struct Held {
        uint64 payer;
        uint256 amount;
    }

    struct Withdrawal {
        uint256 amount;
        uint64 readyAt;
    }

    struct Demand {
        address by;
        uint64 until; // 0: none open
        uint64 index;
        uint8 tree;
    }

    error NotSigner(uint64 account);
    error NotDisputes();
    error BadParams();
    error NotReady(uint64 readyAt);
    error NothingThere();
    error PaymentFailed(address to);
    error BatchOpen(uint64 batch);
    error BadBatch(string what);
    error BondTooSmall(uint256 minBond);
    error BadVoucher(uint64 payer);
    error EscrowShort(uint64 payer, uint256 has, uint256 needs);
    error WrongState(State state);
    error NotDrawn(uint64 validator);
    error Already();
    error WindowClosed(uint64 since);
    error WindowOpen(uint64 until);
    error BadReveal();
    error WrongStatement();
    error DemandOpen(uint64 until);
    error BadAnswer();

    event Deposited(uint64 indexed payer, address from, uint256 amount);
    event WithdrawalRequested(uint64 indexed payer, uint256 amount, uint64 readyAt);
    event Withdrawn(uint64 indexed payer, address to, uint256 amount);
    event BatchPosted(uint64 indexed batch, uint64 indexed poster, bytes32 statement, uint256 bond, S.Batch b);
    event VoucherUsed(uint64 indexed batch, uint64 indexed payer, uint256 cumulative, uint256 amount);
    event DrawMissed(uint64 indexed batch, uint64 missedBlock, uint64 drawBlock);
    event Drawn(uint64 indexed batch, uint64[] committee, uint256[] weights, uint64 commitEnd);
    event VerdictCommitted(uint64 indexed batch, uint64 indexed validator, bytes32 commitment);
    event VerdictRevealed(
        uint64 indexed batch, uint64 indexed validator, uint8 verdict, bytes32 traceRoot, string reason
    );
    event TraceOpened(uint64 indexed batch, bytes32 traceRoot);
    event BatchSettled(uint64 indexed batch, uint64 indexed poster, uint256 fee);
    event BatchVoided(uint64 indexed batch, uint64 indexed poster, string reason, bool mayPostAgain);
    event BatchSlashed(uint64 indexed batch, uint64 indexed poster, address indexed by, string proof, uint256 bond);
    event LeafDemanded(uint64 indexed batch, address by, uint8 tree, uint64 index, uint64 until);
    event LeafShown(uint64 indexed batch, uint8 tree, uint64 index, bytes leaf);

    address public constant DEAD = 0x000000000000000000000000000000000000dEaD;

    IValidators public immutable validators;
    IRewards public immutable rewards;
    address public immutable disputes;
    uint64 public immutable drawDelay;
    uint64 public immutable commitWindow;
    uint64 public immutable revealWindow;
    uint64 public immutable challengeWindow;
    uint64 public immutable demandWindow;
    uint64 public immutable escrowDelay;
    uint256 public immutable minBond;
    uint256 public immutable voidPenalty;
    uint256 public immutable demandDeposit;
    uint256 public immutable validatorPenalty;
    uint16 public immutable committeeSize;
    uint16 public immutable voidQuorum;

    uint64 public batchCount; // numbers are 1 … batchCount
    mapping(uint64 => uint256) public escrow;
    mapping(uint64 => Withdrawal) public withdrawals;
    mapping(uint64 => mapping(uint64 => uint256)) public vouched; // payer, server: cumulative amount used
    mapping(uint64 => uint64) public nextNumber; // poster
    mapping(uint64 => uint64) public nextSequence; // poster: calls recorded or given up
    mapping(uint64 => uint8) public attempts; // poster: voids of the present number
    mapping(uint64 => uint64) public openBatch; // poster: his one open batch, or 0
    mapping(uint64 => Entry) internal _entries;
    mapping(uint64 => uint64[]) internal _committee;
    mapping(uint64 => mapping(uint64 => Seat)) public seats; // batch, validator
    mapping(uint64 => Held[]) internal _held;
    mapping(uint64 => uint64) internal _calls; // batch: callCount
    mapping(uint64 => Demand) public demands;
    mapping(uint64 => bytes32) internal _traceCommitment;

    constructor(IAccounts accounts_, IValidators validators_, IRewards rewards_, address disputes_, Params memory p)
        Signed(accounts_)
    {
        if (
            p.voidQuorum == 0 || p.voidQuorum > 10000 || p.committeeSize == 0 || p.committeeSize > 64 || p.drawDelay == 0
                || p.voidPenalty > p.minBond
        ) revert BadParams();
        validators = validators_;
        rewards = rewards_;
        disputes = disputes_;
        drawDelay = p.drawDelay;
        commitWindow = p.commitWindow;
        revealWindow = p.revealWindow;
        challengeWindow = p.challengeWindow;
        demandWindow = p.demandWindow;
        escrowDelay = p.escrowDelay;
        minBond = p.minBond;
        voidPenalty = p.voidPenalty;
        demandDeposit = p.demandDeposit;
        validatorPenalty = p.validatorPenalty;
        committeeSize = p.committeeSize;
        voidQuorum = p.voidQuorum;
    }

    // Escrow.

    function deposit(uint64 payer) external payable {
        if (accounts.signingOf(payer) == address(0)) revert NotSigner(payer);
        escrow[payer] += msg.value;
        emit Deposited(payer, msg.sender, msg.value);
    }

    /// The money stays in reach of vouchers until the delay is over. A second request replaces the first.
    function requestWithdrawal(uint64 payer, uint256 amount) external {
        if (msg.sender != accounts.signingOf(payer)) revert NotSigner(payer);
        withdrawals[payer] = Withdrawal(amount, uint64(block.timestamp) + escrowDelay);
        emit WithdrawalRequested(payer, amount, uint64(block.timestamp) + escrowDelay);
    }

    function withdraw(uint64 payer) external nonReentrant {
        Withdrawal memory w = withdrawals[payer];
        uint256 amount = w.amount < escrow[payer] ? w.amount : escrow[payer];
        if (amount == 0) revert NothingThere();
        if (block.timestamp < w.readyAt) revert NotReady(w.readyAt);
        delete withdrawals[payer];
        escrow[payer] -= amount;
        address to = accounts.payoutOf(payer);
        emit Withdrawn(payer, to, amount);
        _pay(to, amount);
    }

    // Batches.

    /// Brought by anybody with the bond, which returns to the poster's escrow.
    function postBatch(
        S.Batch calldata b,
        bytes calldata sig,
        S.Voucher[] calldata vouchers,
        bytes[] calldata voucherSigs
    ) external payable nonReentrant returns (uint64 id) {
        if (openBatch[b.poster] != 0) revert BatchOpen(openBatch[b.poster]);
        if (msg.value < minBond) revert BondTooSmall(minBond);
        if (b.number != nextNumber[b.poster]) revert BadBatch("number");
        if (b.callCount == 0 || b.payoutCount == 0) revert BadBatch("empty");
        if (b.firstSequence != nextSequence[b.poster]) revert BadBatch("sequence");
        if (b.previousPayoutRoot != rewards.payoutRootOf(b.poster)) revert BadBatch("previous payout root");
        if (b.payoutTotal != rewards.settledOf(b.poster) + b.feeTotal) revert BadBatch("payout total");
        bytes32 h = S.Statements.hash(b);
        _take(b.poster, h, b.nonce, b.expiry, sig);

        id = ++batchCount;
        Entry storage e = _entries[id];
        e.statement = h;
        e.poster = b.poster;
        e.state = State.Posted;
        e.postedAt = uint64(block.timestamp);
        e.postedBlock = uint64(block.number);
        e.drawBlock = uint64(block.number) + drawDelay;
        e.bond = msg.value;
        _calls[id] = b.callCount;
        _traceCommitment[id] = b.traceCommitment;
        openBatch[b.poster] = id;
        emit BatchPosted(id, b.poster, h, msg.value, b);
        if (_useVouchers(id, b.poster, vouchers, voucherSigs) != b.feeTotal) revert BadBatch("vouchers");
    }

    /// Draws the committee by the hash of a block that was not known when the batch was posted.
    function draw(uint64 batch) external {
        Entry storage e = _entries[batch];
        if (e.state != State.Posted) revert WrongState(e.state);
        if (block.number <= e.drawBlock) revert NotReady(e.drawBlock);
        bytes32 h = Blockhash.blockHash(e.drawBlock);
        if (h == 0) {
            uint64 missed = e.drawBlock;
            e.drawBlock = uint64(block.number) + drawDelay;
            emit DrawMissed(batch, missed, e.drawBlock);
            return;
        }
        (uint64[] memory who, uint256[] memory weights) = validators.committee(
            keccak256(abi.encode(h, address(this), batch)), committeeSize, e.poster, e.postedBlock
        );
        e.state = State.Drawn;
        e.drawn = uint16(who.length);
        uint256 sum = 0;
        for (uint256 i = 0; i < who.length; i++) {
            seats[batch][who[i]].weight = weights[i];
            sum += weights[i];
        }
        e.weight = sum;
        _committee[batch] = who;
        // Nobody to wait for: only the challenge window remains.
        e.commitEnd = uint64(block.timestamp) + (who.length == 0 ? 0 : commitWindow);
        e.revealEnd = e.commitEnd + (who.length == 0 ? 0 : revealWindow);
        emit Drawn(batch, who, weights, e.commitEnd);
    }

    /// commitment = keccak(chain id, this contract, batch, validator, verdict, trace root, salt).
    function commitVerdict(uint64 batch, uint64 validator, bytes32 commitment) external {
        if (msg.sender != accounts.signingOf(validator)) revert NotSigner(validator);
        Entry storage e = _entries[batch];
        if (e.state != State.Drawn) revert WrongState(e.state);
        Seat storage s = seats[batch][validator];
        if (s.weight == 0) revert NotDrawn(validator);
        if (s.commitment != 0) revert Already();
        if (block.timestamp > e.commitEnd) revert WindowClosed(e.commitEnd);
        if (commitment == 0) revert BadReveal();
        s.commitment = commitment;
        if (++e.committed == e.drawn) {
            e.commitEnd = uint64(block.timestamp);
            e.revealEnd = uint64(block.timestamp) + revealWindow;
        }
        emit VerdictCommitted(batch, validator, commitment);
    }

    /// The poster's trace, committed before the draw, opens when no verdict can be committed any more.
    function openTrace(uint64 batch, bytes32 traceRoot, bytes32 salt) external {
        Entry storage e = _entries[batch];
        _revealing(e);
        if (e.traceOpen) revert Already();
        if (keccak256(abi.encode(traceRoot, salt)) != _traceCommitment[batch]) revert BadReveal();
        e.traceOpen = true;
        e.traceRoot = traceRoot;
        emit TraceOpened(batch, traceRoot);
    }

    /// Signed by the validator, brought by anybody. The reason is for people; it counts for nothing.
    function reveal(S.Attestation calldata a, bytes calldata sig, string calldata reason) external {
        Entry storage e = _entries[a.batch];
        _revealing(e);
        Seat storage s = seats[a.batch][a.validator];
        if (s.verdict != 0) revert Already();
        if (a.verdict != 1 && a.verdict != 2) revert BadReveal();
        bytes32 want = keccak256(
            abi.encode(block.chainid, address(this), a.batch, a.validator, a.verdict, a.traceRoot, a.salt)
        );
        if (s.commitment == 0 || s.commitment != want) revert BadReveal();
        _signed(a.validator, S.Statements.hash(a), sig);
        s.verdict = a.verdict;
        s.traceRoot = a.traceRoot;
        e.revealed++;
        emit VerdictRevealed(a.batch, a.validator, a.verdict, a.traceRoot, reason);
    }

    /// Settles or voids when every window is over. Anybody may call; the statement is brought back whole.
    function finalize(uint64 batch, S.Batch calldata b) external nonReentrant {
        Entry storage e = _entries[batch];
        if (e.state != State.Drawn) revert WrongState(e.state);
        if (S.Statements.hash(b) != e.statement) revert WrongStatement();
        if (demands[batch].until != 0) revert DemandOpen(demands[batch].until);
        if (block.timestamp < e.postedAt + challengeWindow) revert WindowOpen(e.postedAt + challengeWindow);
        bool allSeen = _commitsClosed(e) && e.revealed == e.committed && (e.traceOpen || e.committed == 0);
        if (!allSeen && block.timestamp <= e.revealEnd) revert WindowOpen(e.revealEnd);

        // A verdict "valid" with another trace than the poster's is an echo or a guess, and counts for nothing.
        uint256 valid = 0;
        uint256 invalid = 0;
        uint64[] storage who = _committee[batch];
        for (uint256 i = 0; i < who.length; i++) {
            Seat storage s = seats[batch][who[i]];
            if (s.verdict == 2) invalid += s.weight;
            else if (s.verdict == 1 && e.traceOpen && s.traceRoot == e.traceRoot) valid += s.weight;
        }
        e.weightValid = valid;
        e.weightInvalid = invalid;
        if (e.committed != 0 && !e.traceOpen) {
            _void(batch, e, "trace not opened");
        } else if (invalid != 0 && invalid * 10000 >= e.weight * voidQuorum) {
            _void(batch, e, "quorum");
        } else {
            e.state = State.Settled;
            uint64 poster = e.poster;
            uint256 bond = e.bond;
            e.bond = 0;
            openBatch[poster] = 0;
            nextNumber[poster]++;
            attempts[poster] = 0;
            nextSequence[poster] += b.callCount;
            escrow[poster] += bond;
            delete _held[batch];
            emit BatchSettled(batch, poster, b.feeTotal);
            rewards.settle{value: b.feeTotal}(poster, b.payoutRoot, b.claimRoot, b.payoutTotal);
        }
    }

    // Demands: any leaf can be asked for, and silence loses. Trees: 0 requests, 1 inferences, 2 attributions, 3 payouts.

    function demandLeaf(uint64 batch, S.Batch calldata b, uint8 tree, uint64 index) external payable {
        Entry storage e = _known(batch, b);
        if (msg.value < demandDeposit) revert BondTooSmall(demandDeposit);
        if (demands[batch].until != 0) revert DemandOpen(demands[batch].until);
        if (block.timestamp > e.postedAt + challengeWindow) revert WindowClosed(e.postedAt + challengeWindow);
        if (tree > 3 || index >= (tree == 3 ? b.payoutCount : b.callCount)) revert BadAnswer();
        uint64 until = uint64(block.timestamp) + demandWindow;
        demands[batch] = Demand(msg.sender, until, index, tree);
        escrow[e.poster] += msg.value; // the price of the answer; it is taken back with the bond if none comes
        emit LeafDemanded(batch, msg.sender, tree, index, until);
    }

    function showLeaf(uint64 batch, S.Batch calldata b, bytes calldata leaf, bytes32[] calldata proof)
        external
    {
        _known(batch, b);
        Demand memory d = demands[batch];
        if (d.until == 0) revert NothingThere();
        bytes32 root = d.tree == 0
            ? b.requestRoot
            : d.tree == 1 ? b.inferenceRoot : d.tree == 2 ? b.attributionRoot : b.payoutRoot;
        if (!Trees.has(root, d.tree == 3 ? b.payoutCount : b.callCount, d.index, leaf, proof)) revert BadAnswer();
        delete demands[batch];
        emit LeafShown(batch, d.tree, d.index, leaf);
    }

    function silence(uint64 batch) external nonReentrant {
        Demand memory d = demands[batch];
        if (d.until == 0) revert NothingThere();
        if (block.timestamp <= d.until) revert WindowOpen(d.until);
        _slash(batch, msg.sender, "silence");
    }

    // Slashing, by proofs that Disputes checked.

    function slashBatch(uint64 batch, address by, string calldata proof) external nonReentrant {
        if (msg.sender != disputes) revert NotDisputes();
        _slash(batch, by, proof);
    }

    /// Two different attestations of one validator for one batch.
    function proveEquivocation(
        S.Attestation calldata x,
        bytes calldata xSig,
        S.Attestation calldata y,
        bytes calldata ySig
    ) external nonReentrant {
        bytes32 hx = S.Statements.hash(x);
        bytes32 hy = S.Statements.hash(y);
        if (x.validator != y.validator || x.batch != y.batch || hx == hy) revert BadReveal();
        Seat storage s = seats[x.batch][x.validator];
        if (s.verdict == 255) revert Already();
        _signed(x.validator, hx, xSig);
        _signed(y.validator, hy, ySig);
        s.verdict = 255;
        validators.slash(x.validator, validatorPenalty);
    }

    // What others read.

    function entryOf(uint64 batch) external view returns (Entry memory) {
        return _entries[batch];
    }

    function committeeOf(uint64 batch) external view returns (uint64[] memory) {
        return _committee[batch];
    }

    /// The statement is that batch's, and the batch is still open to proofs.
    function requireOpen(uint64 batch, bytes32 statement) external view {
        Entry storage e = _entries[batch];
        if (e.state != State.Posted && e.state != State.Drawn) revert WrongState(e.state);
        if (statement != e.statement) revert WrongStatement();
    }

    function _known(uint64 batch, S.Batch calldata b) private view returns (Entry storage e) {
        e = _entries[batch];
        if (e.state != State.Posted && e.state != State.Drawn) revert WrongState(e.state);
        if (S.Statements.hash(b) != e.statement) revert WrongStatement();
    }

    function _commitsClosed(Entry storage e) private view returns (bool) {
        return e.committed == e.drawn || block.timestamp > e.commitEnd;
    }

    function _revealing(Entry storage e) private view {
        if (e.state != State.Drawn) revert WrongState(e.state);
        if (!_commitsClosed(e)) revert WindowOpen(e.commitEnd);
        if (block.timestamp > e.revealEnd) revert WindowClosed(e.revealEnd);
    }

    function _useVouchers(
        uint64 id,
        uint64 server,
        S.Voucher[] calldata vouchers,
        bytes[] calldata voucherSigs
    ) private returns (uint256 total) {
        if (vouchers.length != voucherSigs.length) revert BadBatch("vouchers");
        for (uint256 i = 0; i < vouchers.length; i++) {
            S.Voucher calldata v = vouchers[i];
            uint256 before = vouched[v.payer][server];
            if (v.server != server || v.cumulative <= before) revert BadVoucher(v.payer);
            _fresh(v.expiry);
            _signed(v.payer, S.Statements.hash(v), voucherSigs[i]);
            uint256 amount = v.cumulative - before;
            if (escrow[v.payer] < amount) revert EscrowShort(v.payer, escrow[v.payer], amount);
            escrow[v.payer] -= amount;
            vouched[v.payer][server] = v.cumulative;
            _held[id].push(Held(v.payer, amount));
            total += amount;
            emit VoucherUsed(id, v.payer, v.cumulative, amount);
        }
    }

    /// The first time the vouchers count again, so that the same calls can be posted once more; the second time they are
    /// used up and the calls given up. Either way the fees are back in the payers' escrow.
    function _void(uint64 batch, Entry storage e, string memory reason) private {
        uint64 poster = e.poster;
        bool again = attempts[poster] == 0;
        e.state = State.Voided;
        uint256 back = e.bond - voidPenalty;
        e.bond = 0;
        escrow[poster] += back;
        _refund(batch, poster, again);
        if (again) attempts[poster] = 1;
        else _giveUp(batch, poster);
        emit BatchVoided(batch, poster, reason, again);
        if (voidPenalty != 0) _pay(DEAD, voidPenalty);
    }

    /// Half of the bond goes to who proved it, half is burnt, so that proving one's own fault does not pay. Validators
    /// who called the batch valid lose part of their stake: what a contract can check they had to see.
    function _slash(uint64 batch, address by, string memory proof) private {
        Entry storage e = _entries[batch];
        if (e.state != State.Posted && e.state != State.Drawn) revert WrongState(e.state);
        uint64 poster = e.poster;
        uint256 bond = e.bond;
        e.state = State.Slashed;
        e.bond = 0;
        if (demands[batch].until != 0) {
            uint256 price = demandDeposit < escrow[poster] ? demandDeposit : escrow[poster];
            escrow[poster] -= price;
            bond += price;
            delete demands[batch];
        }
        _refund(batch, poster, false);
        _giveUp(batch, poster);
        emit BatchSlashed(batch, poster, by, proof, bond);
        uint64[] storage who = _committee[batch];
        for (uint256 i = 0; i < who.length; i++) {
            if (seats[batch][who[i]].verdict == 1) validators.slash(who[i], validatorPenalty);
        }
        _pay(DEAD, bond - bond / 2);
        _pay(by, bond / 2);
    }

    function _refund(uint64 batch, uint64 poster, bool rewind) private {
        Held[] storage held = _held[batch];
        for (uint256 i = 0; i < held.length; i++) {
            escrow[held[i].payer] += held[i].amount;
            if (rewind) vouched[held[i].payer][poster] -= held[i].amount;
        }
        delete _held[batch];
        openBatch[poster] = 0;
    }

    function _giveUp(uint64 batch, uint64 poster) private {
        nextNumber[poster]++;
        attempts[poster] = 0;
        nextSequence[poster] += _calls[batch];
    }

    function _pay(address to, uint256 amount) private {
        (bool ok,) = to.call{value: amount}("");
        if (!ok) revert PaymentFailed(to);
    }
}

// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ReentrancyGuard} from "@openzeppelin/contracts/utils/ReentrancyGuard.sol";
import {IAccounts} from "./Signed.sol";

/// Stake, the draw of committees, and the stakers' fifth of every fee, shared by stake as it arrives.
/// What is unbonding stays slashable until the delay, longer than every window, has passed.
contract Validators is ReentrancyGuard {
    struct Validator {
        uint256 stake;
        uint256 unbonding;
        uint64 releaseAt; // seconds, of `unbonding`
        uint64 since; // block of the last increase: who staked after a batch was posted is not drawn for it
        uint32 slot; // 1 + place in `active`; 0: none
        uint256 shareAt; // sharePerStake when last brought up to date
        uint256 owed;
    }

    error NotSigner(uint64 account);
    error NotLedger();
    error TooSmall(uint256 minStake);
    error NotEnough();
    error NotReady(uint64 releaseAt);
    error Full();
    error PaymentFailed(address to);

    event Staked(uint64 indexed account, uint256 amount, uint256 stake);
    event Unbonding(uint64 indexed account, uint256 amount, uint64 releaseAt);
    event Withdrawn(uint64 indexed account, address to, uint256 amount);
    event Collected(uint64 indexed account, address to, uint256 amount);
    event Slashed(uint64 indexed account, uint256 amount);
    event Shared(uint256 amount);

    uint256 public constant MAX_ACTIVE = 256;
    uint256 private constant SCALE = 1e18;
    address public constant DEAD = 0x000000000000000000000000000000000000dEaD;

    IAccounts public immutable accounts;
    address public immutable ledger;
    uint256 public immutable minStake;
    uint64 public immutable unbondDelay;

    uint256 public totalStake;
    uint256 public sharePerStake; // times SCALE
    uint256 public unshared; // arrived while nobody had a stake, and rounding left over
    mapping(uint64 => Validator) public validators;
    uint64[] public active;

    constructor(IAccounts accounts_, address ledger_, uint256 minStake_, uint64 unbondDelay_) {
        accounts = accounts_;
        ledger = ledger_;
        minStake = minStake_;
        unbondDelay = unbondDelay_;
    }

    /// The stakers' part of a claim arrives here.
    receive() external payable {
        _share(msg.value);
    }

    function stake(uint64 account) external payable {
        _onlySigner(account);
        Validator storage v = validators[account];
        _update(v);
        v.stake += msg.value;
        if (msg.value == 0 || v.stake < minStake) revert TooSmall(minStake);
        v.since = uint64(block.number);
        if (v.slot == 0) {
            if (active.length >= MAX_ACTIVE) revert Full();
            active.push(account);
            v.slot = uint32(active.length);
        }
        totalStake += msg.value;
        emit Staked(account, msg.value, v.stake);
    }

    /// What remains must be 0 or the minimum. A second call starts the delay of the whole amount again.
    function unbond(uint64 account, uint256 amount) external {
        _onlySigner(account);
        Validator storage v = validators[account];
        if (amount == 0 || amount > v.stake) revert NotEnough();
        _update(v);
        v.stake -= amount;
        if (v.stake != 0 && v.stake < minStake) revert TooSmall(minStake);
        totalStake -= amount;
        v.unbonding += amount;
        v.releaseAt = uint64(block.timestamp) + unbondDelay;
        if (v.stake == 0) _drop(v);
        emit Unbonding(account, amount, v.releaseAt);
    }

    function withdraw(uint64 account) external nonReentrant {
        Validator storage v = validators[account];
        uint256 amount = v.unbonding;
        if (amount == 0) revert NotEnough();
        if (block.timestamp < v.releaseAt) revert NotReady(v.releaseAt);
        v.unbonding = 0;
        address to = accounts.payoutOf(account);
        emit Withdrawn(account, to, amount);
        _pay(to, amount);
    }

    /// Anybody may bring it; the coins go to the payout address.
    function collect(uint64 account) external nonReentrant returns (uint256 amount) {
        Validator storage v = validators[account];
        _update(v);
        amount = v.owed;
        if (amount == 0) revert NotEnough();
        v.owed = 0;
        address to = accounts.payoutOf(account);
        emit Collected(account, to, amount);
        _pay(to, amount);
    }

    function owedTo(uint64 account) external view returns (uint256) {
        Validator storage v = validators[account];
        return v.owed + v.stake * (sharePerStake - v.shareAt) / SCALE;
    }

    function activeCount() external view returns (uint256) {
        return active.length;
    }

    /// Takes up to `amount`, of the stake first, then of what is unbonding, and burns it.
    function slash(uint64 account, uint256 amount) external nonReentrant returns (uint256 taken) {
        if (msg.sender != ledger) revert NotLedger();
        Validator storage v = validators[account];
        _update(v);
        uint256 a = amount < v.stake ? amount : v.stake;
        v.stake -= a;
        totalStake -= a;
        uint256 b = amount - a < v.unbonding ? amount - a : v.unbonding;
        v.unbonding -= b;
        taken = a + b;
        // Below the minimum nobody is drawn; what is left can be unbonded.
        if (v.slot != 0 && v.stake < minStake) _drop(v);
        emit Slashed(account, taken);
        if (taken != 0) _pay(DEAD, taken);
    }

    /// Up to `size` different validators, each drawn with a chance in proportion to its stake among those left, from those
    /// who had staked before block `before`; never `except` (the poster). The order of drawing is part of the result.
    function committee(bytes32 seed, uint256 size, uint64 except, uint64 before)
        external
        view
        returns (uint64[] memory drawn, uint256[] memory weights)
    {
        uint256 n = active.length;
        uint64[] memory who = new uint64[](n);
        uint256[] memory weight = new uint256[](n);
        uint256 m = 0;
        uint256 sum = 0;
        for (uint256 i = 0; i < n; i++) {
            Validator storage v = validators[active[i]];
            if (active[i] == except || v.since >= before) continue;
            who[m] = active[i];
            weight[m] = v.stake;
            sum += v.stake;
            m++;
        }
        if (size > m) size = m;
        drawn = new uint64[](size);
        weights = new uint256[](size);
        for (uint256 k = 0; k < size; k++) {
            uint256 r = uint256(keccak256(abi.encode(seed, k))) % sum;
            uint256 i = 0;
            while (r >= weight[i]) r -= weight[i++];
            drawn[k] = who[i];
            weights[k] = weight[i];
            sum -= weight[i];
            m--;
            who[i] = who[m];
            weight[i] = weight[m];
        }
    }

    function _onlySigner(uint64 account) private view {
        if (msg.sender != accounts.signingOf(account)) revert NotSigner(account);
    }

    function _update(Validator storage v) private {
        v.owed += v.stake * (sharePerStake - v.shareAt) / SCALE;
        v.shareAt = sharePerStake;
    }

    function _share(uint256 amount) private {
        amount += unshared;
        if (totalStake == 0) {
            unshared = amount;
            return;
        }
        uint256 per = amount * SCALE / totalStake;
        // Rounded up: what several arrivals owe together is rounded once, and must not exceed what was set aside.
        uint256 given = (per * totalStake + SCALE - 1) / SCALE;
        unshared = amount - given;
        sharePerStake += per;
        emit Shared(given);
    }

    function _drop(Validator storage v) private {
        uint64 last = active[active.length - 1];
        active[v.slot - 1] = last;
        validators[last].slot = v.slot;
        active.pop();
        v.slot = 0;
    }

    function _pay(address to, uint256 amount) private {
        (bool ok,) = to.call{value: amount}("");
        if (!ok) revert PaymentFailed(to);
    }
}

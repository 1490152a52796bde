// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import * as S from "./Statements.sol";

/// Who is who: an account is a number with a signing, a payout and a recovery key.
/// Numbers 0 (burn), 1 (platform) and 2 (stakers) are reserved; users begin at 3.
/// The recovery key is the last word: it can replace the other two, but only after a delay in which whoever still holds
/// the signing key sees it coming and can move the account's money out. A thief of the signing key therefore cannot keep
/// the account, and a thief of the recovery key is seen before he owns it.
contract Accounts is EIP712 {
    struct Account {
        address signing;
        address payout;
        address recovery;
    }

    struct Pending {
        address signing;
        address payout;
        uint64 readyAt; // seconds; 0: none
    }

    uint64 public constant BURN = 0;
    uint64 public constant PLATFORM = 1;
    uint64 public constant STAKERS = 2;
    address public constant DEAD = 0x000000000000000000000000000000000000dEaD;

    error Expired(uint64 expiry);
    error NonceUsed(uint256 nonce);
    error BadSignature(address want);
    error KeyTaken(address key);
    error ZeroKey();
    error NoAccount(uint64 account);
    error NotReady(uint64 readyAt);

    event Registered(uint64 indexed account, address indexed signing, address payout, address recovery);
    event Rotated(uint64 indexed account, address indexed signing, address payout);
    event RecoveryStarted(uint64 indexed account, address signing, address payout, uint64 readyAt);
    event RecoveryCancelled(uint64 indexed account);

    uint64 public immutable recoveryDelay;
    uint64 public nextAccount = 3;
    mapping(uint64 => Account) internal _accounts;
    /// Present signing key to account; 0 (never a signer) means none.
    mapping(address => uint64) public idOf;
    mapping(uint64 => Pending) public pending;
    mapping(address => mapping(uint256 => bool)) public nonceUsed; // by signing or recovery key

    constructor(address signing, address payout, address recovery, address stakers, uint64 recoveryDelay_)
        EIP712("loam", "1")
    {
        if (signing == address(0) || payout == address(0) || recovery == address(0) || stakers == address(0)) {
            revert ZeroKey();
        }
        recoveryDelay = recoveryDelay_;
        _accounts[BURN].payout = DEAD;
        _accounts[PLATFORM] = Account(signing, payout, recovery);
        idOf[signing] = PLATFORM;
        _accounts[STAKERS].payout = stakers;
        emit Registered(PLATFORM, signing, payout, recovery);
    }

    /// Brought by anybody, so that a key without coins can have an account.
    function register(S.Register calldata r, bytes calldata sig) external returns (uint64 account) {
        if (r.signing == address(0) || r.payout == address(0) || r.recovery == address(0)) revert ZeroKey();
        _check(S.Statements.hash(r), r.nonce, r.expiry, r.signing, sig);
        if (idOf[r.signing] != 0) revert KeyTaken(r.signing);
        account = nextAccount++;
        _accounts[account] = Account(r.signing, r.payout, r.recovery);
        idOf[r.signing] = account;
        emit Registered(account, r.signing, r.payout, r.recovery);
    }

    /// Signed by the present signing key, and by the new one where it changes: else one could squat on a stranger's key.
    function rotate(S.Rotate calldata r, bytes calldata sig, bytes calldata newSig) external {
        Account storage a = _accounts[r.account];
        bytes32 h = S.Statements.hash(r);
        if (a.signing == address(0)) revert NoAccount(r.account);
        _check(h, r.nonce, r.expiry, a.signing, sig);
        _consent(a, r, h, newSig);
        _set(r.account, r.signing, r.payout);
    }

    /// The same statement signed by the recovery key: counts after the delay.
    function recoverStart(S.Rotate calldata r, bytes calldata sig, bytes calldata newSig) external {
        Account storage a = _accounts[r.account];
        bytes32 h = S.Statements.hash(r);
        if (a.recovery == address(0)) revert NoAccount(r.account);
        _check(h, r.nonce, r.expiry, a.recovery, sig);
        _consent(a, r, h, newSig);
        uint64 readyAt = uint64(block.timestamp) + recoveryDelay;
        pending[r.account] = Pending(r.signing, r.payout, readyAt);
        emit RecoveryStarted(r.account, r.signing, r.payout, readyAt);
    }

    /// Only the recovery key takes its own step back.
    function recoverCancel(uint64 account) external {
        if (msg.sender != _accounts[account].recovery) revert BadSignature(_accounts[account].recovery);
        delete pending[account];
        emit RecoveryCancelled(account);
    }

    function recoverFinish(uint64 account) external {
        Pending memory p = pending[account];
        if (p.readyAt == 0 || block.timestamp < p.readyAt) revert NotReady(p.readyAt);
        delete pending[account];
        _set(account, p.signing, p.payout);
    }

    function signingOf(uint64 account) external view returns (address) {
        return _accounts[account].signing;
    }

    function payoutOf(uint64 account) external view returns (address) {
        return _accounts[account].payout;
    }

    function recoveryOf(uint64 account) external view returns (address) {
        return _accounts[account].recovery;
    }

    function domainSeparator() external view returns (bytes32) {
        return _domainSeparatorV4();
    }

    function _check(bytes32 structHash, uint256 nonce, uint64 expiry, address key, bytes calldata sig) private {
        if (block.timestamp > expiry) revert Expired(expiry);
        if (ECDSA.recover(_hashTypedDataV4(structHash), sig) != key) revert BadSignature(key);
        if (nonceUsed[key][nonce]) revert NonceUsed(nonce);
        nonceUsed[key][nonce] = true;
    }

    function _consent(Account storage a, S.Rotate calldata r, bytes32 h, bytes calldata newSig) private view {
        if (r.signing == address(0) || r.payout == address(0)) revert ZeroKey();
        if (r.signing == a.signing) return;
        if (ECDSA.recover(_hashTypedDataV4(h), newSig) != r.signing) revert BadSignature(r.signing);
    }

    function _set(uint64 account, address signing, address payout) private {
        Account storage a = _accounts[account];
        if (signing != a.signing) {
            if (idOf[signing] != 0) revert KeyTaken(signing);
            delete idOf[a.signing];
            idOf[signing] = account;
        }
        a.signing = signing;
        a.payout = payout;
        emit Rotated(account, signing, payout);
    }
}

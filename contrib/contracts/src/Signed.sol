// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";

interface IAccounts {
    function signingOf(uint64 account) external view returns (address);
    function payoutOf(uint64 account) external view returns (address);
}

/// What every contract that takes signed statements shares: the domain "loam" version 1 (chain id and contract are part
/// of it), expiry, and nonces. A statement may be brought by anybody (relayed); it counts once. Nonces are unordered: any
/// unused number serves, so that statements made in parallel do not wait for each other.
abstract contract Signed is EIP712 {
    error Expired(uint64 expiry);
    error NonceUsed(uint64 account, uint256 nonce);
    error BadSignature(uint64 account);

    IAccounts public immutable accounts;
    /// account, nonce: used.
    mapping(uint64 => mapping(uint256 => bool)) public nonceUsed;

    constructor(IAccounts accounts_) EIP712("loam", "1") {
        accounts = accounts_;
    }

    function domainSeparator() external view returns (bytes32) {
        return _domainSeparatorV4();
    }

    function _fresh(uint64 expiry) internal view {
        if (block.timestamp > expiry) revert Expired(expiry);
    }

    function _use(uint64 account, uint256 nonce) internal {
        if (nonceUsed[account][nonce]) revert NonceUsed(account, nonce);
        nonceUsed[account][nonce] = true;
    }

    /// The struct hash was signed, under this contract's domain, by the account's present signing key.
    function _signed(uint64 account, bytes32 structHash, bytes calldata sig) internal view virtual {
        address key = accounts.signingOf(account);
        if (key == address(0) || ECDSA.recover(_hashTypedDataV4(structHash), sig) != key) revert BadSignature(account);
    }

    function _take(uint64 account, bytes32 structHash, uint256 nonce, uint64 expiry, bytes calldata sig) internal {
        _fresh(expiry);
        _signed(account, structHash, sig);
        _use(account, nonce);
    }
}

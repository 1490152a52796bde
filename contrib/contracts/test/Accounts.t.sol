// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Base} from "./Base.sol";
import {Accounts} from "../src/Accounts.sol";
import * as S from "../src/Statements.sol";

contract AccountsTest is Base {
    function test_ReservedAccounts() public view {
        require(accounts.payoutOf(0) == 0x000000000000000000000000000000000000dEaD, "burn");
        require(accounts.signingOf(0) == address(0) && accounts.signingOf(2) == address(0), "no signer");
        require(accounts.payoutOf(2) == address(validators), "stakers");
        eq(accounts.idOf(signer(1)), 1, "platform");
        eq(accounts.nextAccount(), 9, "next");
    }

    function test_RegisterIsRelayedAndCountsOnce() public {
        S.Register memory r = S.Register(signer(20), payout(20), recovery(20), 7, never());
        bytes memory sig = sign(20, dsA, S.Statements.hash(r));
        vm.prank(address(0xbeef));
        eq(accounts.register(r, sig), 9, "id");
        vm.expectRevert(abi.encodeWithSelector(Accounts.NonceUsed.selector, 7));
        accounts.register(r, sig);
        r.nonce = 8;
        sig = sign(20, dsA, S.Statements.hash(r));
        vm.expectRevert(abi.encodeWithSelector(Accounts.KeyTaken.selector, signer(20)));
        accounts.register(r, sig);
    }

    function test_RegisterRefuses() public {
        S.Register memory r = S.Register(signer(20), payout(20), recovery(20), 7, uint64(time() - 1));
        bytes memory sig = sign(20, dsA, S.Statements.hash(r));
        vm.expectRevert(abi.encodeWithSelector(Accounts.Expired.selector, r.expiry));
        accounts.register(r, sig);
        r.expiry = never();
        vm.expectRevert(abi.encodeWithSelector(Accounts.BadSignature.selector, signer(20)));
        accounts.register(r, sign(21, dsA, S.Statements.hash(r)));
        vm.expectRevert(abi.encodeWithSelector(Accounts.BadSignature.selector, signer(20)));
        accounts.register(r, sign(20, dsL, S.Statements.hash(r))); // another contract's domain
        r.payout = address(0);
        vm.expectRevert(Accounts.ZeroKey.selector);
        accounts.register(r, sig);
    }

    function rotation(uint64 to) private returns (S.Rotate memory r, bytes32 h) {
        r = S.Rotate(alice, signer(to), payout(to), nonce(), never());
        h = S.Statements.hash(r);
    }

    function test_RotateNeedsBothKeys() public {
        (S.Rotate memory r, bytes32 h) = rotation(30);
        bytes32 d = dsA;
        vm.expectRevert(abi.encodeWithSelector(Accounts.BadSignature.selector, signer(30)));
        accounts.rotate(r, sign(alice, d, h), sign(31, d, h));
        accounts.rotate(r, sign(alice, d, h), sign(30, d, h));
        require(accounts.signingOf(alice) == signer(30) && accounts.payoutOf(alice) == payout(30), "rotated");
        eq(accounts.idOf(signer(alice)), 0, "old key free");
        eq(accounts.idOf(signer(30)), alice, "new key");
        (r, h) = rotation(32);
        vm.expectRevert(abi.encodeWithSelector(Accounts.BadSignature.selector, signer(30)));
        accounts.rotate(r, sign(alice, d, h), sign(32, d, h)); // the old key signs no more
    }

    function test_RotateOntoTakenKey() public {
        (S.Rotate memory r, bytes32 h) = rotation(bob);
        bytes32 d = dsA;
        vm.expectRevert(abi.encodeWithSelector(Accounts.KeyTaken.selector, signer(bob)));
        accounts.rotate(r, sign(alice, d, h), sign(bob, d, h));
    }

    function test_DelayedRecovery() public {
        (S.Rotate memory r, bytes32 h) = rotation(30);
        bytes32 d = dsA;
        bytes memory sig = signWith(KEY + 500 + alice, d, h);
        accounts.recoverStart(r, sig, sign(30, d, h));
        vm.expectRevert(abi.encodeWithSelector(Accounts.NotReady.selector, uint64(time() + 1000)));
        accounts.recoverFinish(alice);
        // A thief of the signing key moves it away meanwhile; the recovery still wins.
        (S.Rotate memory t, bytes32 th) = rotation(31);
        accounts.rotate(t, sign(alice, d, th), sign(31, d, th));
        vm.warp(time() + 1000);
        accounts.recoverFinish(alice);
        require(accounts.signingOf(alice) == signer(30), "recovered");
        eq(accounts.idOf(signer(31)), 0, "thief out");
        vm.expectRevert(abi.encodeWithSelector(Accounts.NotReady.selector, uint64(0)));
        accounts.recoverFinish(alice);
    }

    function test_OnlyTheRecoveryKeyCancels() public {
        (S.Rotate memory r, bytes32 h) = rotation(30);
        bytes32 d = dsA;
        vm.expectRevert(abi.encodeWithSelector(Accounts.BadSignature.selector, recovery(alice)));
        accounts.recoverStart(r, sign(alice, d, h), sign(30, d, h));
        accounts.recoverStart(r, signWith(KEY + 500 + alice, d, h), sign(30, d, h));
        vm.expectRevert(abi.encodeWithSelector(Accounts.BadSignature.selector, recovery(alice)));
        vm.prank(signer(alice));
        accounts.recoverCancel(alice);
        vm.prank(recovery(alice));
        accounts.recoverCancel(alice);
        vm.warp(time() + 5000);
        vm.expectRevert(abi.encodeWithSelector(Accounts.NotReady.selector, uint64(0)));
        accounts.recoverFinish(alice);
    }
}

// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Base} from "./Base.sol";
import {Validators} from "../src/Validators.sol";

contract ValidatorsTest is Base {
    function test_StakeUnbondWithdraw() public {
        vm.deal(signer(val), 10 * OPEN);
        vm.expectRevert(abi.encodeWithSelector(Validators.TooSmall.selector, OPEN));
        vm.prank(signer(val));
        validators.stake{value: OPEN - 1}(val);
        vm.expectRevert(abi.encodeWithSelector(Validators.NotSigner.selector, val));
        validators.stake{value: OPEN}(val);
        stake(val, 3 * OPEN);
        vm.expectRevert(abi.encodeWithSelector(Validators.TooSmall.selector, OPEN));
        vm.prank(signer(val));
        validators.unbond(val, 2 * OPEN + 1);
        vm.prank(signer(val));
        validators.unbond(val, 3 * OPEN);
        eq(validators.activeCount(), 0, "not active");
        eq(validators.totalStake(), 0, "total");
        vm.expectRevert(abi.encodeWithSelector(Validators.NotReady.selector, uint64(time() + 5000)));
        validators.withdraw(val);
        vm.warp(time() + 5000);
        validators.withdraw(val);
        eq(payout(val).balance, 3 * OPEN, "back");
    }

    function test_SharesByStake() public {
        stake(val, OPEN);
        stake(carol, 3 * OPEN);
        (bool ok,) = address(validators).call{value: 4 * OPEN}("");
        require(ok, "sent");
        eq(validators.owedTo(val), OPEN, "a quarter");
        eq(validators.owedTo(carol), 3 * OPEN, "three quarters");
        stake(alice, 4 * OPEN); // later: none of it
        eq(validators.owedTo(alice), 0, "later");
        (ok,) = address(validators).call{value: 8 * OPEN}("");
        eq(validators.owedTo(alice), 4 * OPEN, "then half");
        validators.collect(val);
        eq(payout(val).balance, 2 * OPEN, "collected");
    }

    function test_WhatComesBeforeAnyStakeWaits() public {
        (bool ok,) = address(validators).call{value: OPEN}("");
        require(ok, "sent");
        eq(validators.unshared(), OPEN, "waits");
        stake(val, OPEN);
        (ok,) = address(validators).call{value: OPEN}("");
        eq(validators.owedTo(val), 2 * OPEN, "both");
    }

    function testFuzz_NeverOwesMoreThanItHas(uint96[4] memory stakes, uint96[3] memory incomes) public {
        uint256 staked = 0;
        for (uint64 i = 0; i < 4; i++) {
            uint256 s = uint256(stakes[i]) + OPEN;
            stake(alice + i, s);
            staked += s;
            if (i < 3) {
                vm.deal(address(this), incomes[i]);
                (bool ok,) = address(validators).call{value: incomes[i]}("");
                require(ok, "sent");
            }
        }
        uint256 owed = 0;
        for (uint64 i = 0; i < 4; i++) owed += validators.owedTo(alice + i);
        require(owed + staked + validators.unshared() <= address(validators).balance, "owes too much");
    }

    function testFuzz_CommitteeHasNoRepeatsAndNoPoster(bytes32 seed, uint8 n, uint8 size) public {
        uint256 k = uint256(n) % 6 + 1;
        for (uint64 i = 0; i < k; i++) {
            if (i > 0) newAccount(8 + i);
            stake(val + i, (i + 1) * OPEN);
        }
        vm.roll(height() + 1);
        uint256 want = uint256(size) % 8;
        (uint64[] memory who, uint256[] memory w) = validators.committee(seed, want, val, uint64(height()));
        eq(who.length, want < k - 1 ? want : k - 1, "size");
        for (uint256 i = 0; i < who.length; i++) {
            require(who[i] != val, "poster");
            eq(w[i], (who[i] - val + 1) * OPEN, "weight");
            for (uint256 j = 0; j < i; j++) require(who[i] != who[j], "repeat");
        }
    }

    function test_WhoStakedLateIsNotDrawn() public {
        stake(val, OPEN);
        uint64 posted = uint64(height()) + 5;
        vm.roll(posted);
        stake(carol, 100 * OPEN);
        (uint64[] memory who,) = validators.committee("seed", 3, 0, posted);
        eq(who.length, 1, "one");
        eq(who[0], val, "the early one");
    }

    function test_DrawFollowsStake() public {
        stake(val, OPEN);
        stake(carol, 9 * OPEN);
        vm.roll(height() + 1);
        uint256 hits = 0;
        for (uint256 i = 0; i < 500; i++) {
            (uint64[] memory who,) = validators.committee(keccak256(abi.encode(i)), 1, 0, uint64(height()));
            if (who[0] == carol) hits++;
        }
        require(hits > 420 && hits < 480, str(hits)); // 450 expected; 6.7 is one standard deviation
    }
}

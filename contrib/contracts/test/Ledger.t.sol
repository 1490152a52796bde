// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Base} from "./Base.sol";
import {Ledger} from "../src/Ledger.sol";
import {Disputes} from "../src/Disputes.sol";
import {Rewards} from "../src/Rewards.sol";
import {Validators} from "../src/Validators.sol";
import {Signed} from "../src/Signed.sol";
import * as S from "../src/Statements.sol";

contract Greedy {
    Rewards private rewards;
    bytes private again;
    uint256 public tries;

    function arm(Rewards r, bytes calldata call) external {
        (rewards, again) = (r, call);
    }

    receive() external payable {
        tries++;
        (bool ok,) = address(rewards).call(again);
        require(!ok, "claimed twice");
    }
}

contract LedgerTest is Base {
    address constant DEAD = 0x000000000000000000000000000000000000dEaD;

    function expectBad(string memory what) private {
        vm.expectRevert(abi.encodeWithSelector(Ledger.BadBatch.selector, what));
    }

    function post_(Made memory m) external {
        post(m);
    }

    // The golden case: fee 1 OPEN, a quarter of the influence, 0.125 OPEN.
    function test_GoldenCase() public {
        fund(payer, OPEN);
        Disputes.Leaf[] memory t = golden(OPEN);
        Made memory m = make(server, OPEN, t);
        settle(m);
        eq(ledger.escrow(server), OPEN, "bond back");
        eq(ledger.escrow(payer), 0, "fee taken");
        eq(address(rewards).balance, OPEN, "pot");
        eq(claim(t, server, 4), OPEN / 8, "alice claims");
        eq(payout(alice).balance, 0.125 ether, "alice paid 0.125");
        eq(claim(t, server, 3), OPEN / 5, "model");
        eq(claim(t, server, 1), OPEN / 10, "platform");
        uint256 dead = DEAD.balance;
        eq(claim(t, server, 0), OPEN / 8, "burnt");
        eq(DEAD.balance - dead, OPEN / 8, "dead");
        stake(val, 2 * OPEN);
        eq(claim(t, server, 2), OPEN / 5, "stakers");
        eq(validators.owedTo(val), OPEN / 5, "validator's share");
        validators.collect(val);
        eq(payout(val).balance, OPEN / 5, "collected");
        eq(claim(t, server, 5), OPEN / 4, "bob");
        eq(address(rewards).balance, 0, "pot empty");
        vm.expectRevert(Rewards.NothingDue.selector);
        rewards.claim(server, 4, alice, t[4].prefix, t[4].cumulative, claimProof(t, 4));
    }

    function test_SecondBatchChainsAndPaysTheDifference() public {
        fund(payer, 3 * OPEN);
        Disputes.Leaf[] memory t = golden(OPEN);
        settle(make(server, OPEN, t));
        claim(t, server, 4);
        Disputes.Leaf[] memory t2 = golden(3 * OPEN);
        Made memory m = make(server, 2 * OPEN, t2);
        eq(m.b.number, 1, "number");
        eq(m.b.firstSequence, 1, "sequence");
        settle(m);
        eq(claim(t2, server, 4), OPEN / 4, "difference");
        eq(payout(alice).balance, 3 * OPEN / 8, "sum");
        // The first root proves nothing any more.
        vm.expectRevert(Rewards.BadProof.selector);
        rewards.claim(server, 5, bob, t[5].prefix, t[5].cumulative, claimProof(t, 5));
    }

    function test_ABadRootDrainsNobodyElse() public {
        fund(payer, 11 * OPEN);
        Disputes.Leaf[] memory good = golden(10 * OPEN);
        settle(make(server, 10 * OPEN, good));
        // bob posts a table that promises him far more than his pot holds; nobody challenges it.
        uint64[] memory who = new uint64[](1);
        uint256[] memory sum = new uint256[](1);
        (who[0], sum[0]) = (bob, 9 * OPEN);
        Disputes.Leaf[] memory bad = table(who, sum);
        settle(make(bob, OPEN, bad));
        bytes32[] memory p = claimProof(bad, 0);
        vm.expectRevert(abi.encodeWithSelector(Rewards.PotEmpty.selector, bob));
        rewards.claim(bob, 0, bob, 0, 9 * OPEN, p);
        vm.expectRevert(Rewards.BadProof.selector);
        rewards.claim(server, 0, bob, 0, 9 * OPEN, p); // nor out of another's pot
        eq(address(rewards).balance, 11 * OPEN, "all there");
        for (uint256 i = 0; i < good.length; i++) claim(good, server, i);
        eq(address(rewards).balance, OPEN, "server's pot paid out whole");
    }

    function testFuzz_ClaimsNeverExceedThePot(uint256[5] memory amounts, uint96 fee, uint8 order) public {
        uint256 f = uint256(fee) + 1;
        vm.deal(address(this), f * 2 + 10 * OPEN);
        fund(payer, f * 2);
        settle(make(server, f, golden(f))); // another pot beside
        uint64[] memory who = new uint64[](5);
        uint256[] memory sum = new uint256[](5);
        for (uint64 i = 0; i < 5; i++) {
            who[i] = 3 + i;
            sum[i] = amounts[i] % (2 * f);
        }
        Disputes.Leaf[] memory t = table(who, sum);
        settle(make(bob, f, t)); // any table, true or not
        uint256 paidOut = 0;
        for (uint256 k = 0; k < 5; k++) {
            uint256 i = (k + order) % 5;
            try rewards.claim(bob, t[i].index, t[i].account, t[i].prefix, t[i].cumulative, claimProof(t, i)) returns (
                uint256 a
            ) {
                paidOut += a;
            } catch {}
        }
        require(paidOut <= f, "more than the pot");
        eq(address(rewards).balance, 2 * f - paidOut, "the other pot is whole");
        (uint256 settled, uint256 claimed,,) = rewards.pots(bob);
        require(claimed <= settled && claimed == paidOut, "claimed");
    }

    function test_ReentrantClaimant() public {
        Greedy g = new Greedy();
        S.Register memory r = S.Register(signer(20), address(g), recovery(20), nonce(), never());
        accounts.register(r, sign(20, dsA, S.Statements.hash(r)));
        fund(payer, OPEN);
        uint64[] memory who = new uint64[](2);
        uint256[] memory sum = new uint256[](2);
        (who[0], sum[0], who[1], sum[1]) = (bob, OPEN / 2, 9, OPEN / 2);
        Disputes.Leaf[] memory t = table(who, sum);
        settle(make(server, OPEN, t));
        g.arm(
            rewards,
            abi.encodeCall(Rewards.claim, (server, 1, 9, t[1].prefix, t[1].cumulative, claimProof(t, 1)))
        );
        claim(t, server, 1);
        eq(g.tries(), 1, "tried");
        eq(address(g).balance, OPEN / 2, "once");
    }

    function test_PostRefusals() public {
        fund(payer, 2 * OPEN);
        Disputes.Leaf[] memory t = golden(OPEN);
        Made memory m = make(server, OPEN, t);
        (S.Voucher[] memory v, bytes[] memory sigs) = voucher(payer, server, OPEN);
        bytes memory sig = sign(server, dsL, S.Statements.hash(m.b));
        vm.expectRevert(abi.encodeWithSelector(Ledger.BondTooSmall.selector, OPEN));
        ledger.postBatch{value: OPEN - 1}(m.b, sig, v, sigs);
        vm.expectRevert(abi.encodeWithSelector(Signed.BadSignature.selector, server));
        ledger.postBatch{value: OPEN}(m.b, sign(bob, dsL, S.Statements.hash(m.b)), v, sigs);
        m.b.payoutTotal++;
        expectBad("payout total");
        this.post_(m);
        m.b.payoutTotal--;
        m.b.previousPayoutRoot = "x";
        expectBad("previous payout root");
        this.post_(m);
        m.b.previousPayoutRoot = 0;
        m.b.number = 1;
        expectBad("number");
        this.post_(m);
        m.b.number = 0;
        m.b.firstSequence = 1;
        expectBad("sequence");
        this.post_(m);
        m.b.firstSequence = 0;
        m.b.expiry = uint64(time() - 1);
        vm.expectRevert(abi.encodeWithSelector(Signed.Expired.selector, m.b.expiry));
        this.post_(m);
        m.b.expiry = never();
        post(m);
        m.b.nonce = nonce();
        vm.expectRevert(abi.encodeWithSelector(Ledger.BatchOpen.selector, m.id));
        this.post_(m);
    }

    function test_VouchersCoverTheFeeExactly() public {
        fund(payer, 2 * OPEN);
        Made memory m = make(server, OPEN, golden(OPEN));
        bytes memory sig = sign(server, dsL, S.Statements.hash(m.b));
        (S.Voucher[] memory v, bytes[] memory sigs) = voucher(payer, server, OPEN + 1);
        expectBad("vouchers");
        ledger.postBatch{value: OPEN}(m.b, sig, v, sigs);
        (v, sigs) = voucher(payer, server, 3 * OPEN);
        vm.expectRevert(abi.encodeWithSelector(Ledger.EscrowShort.selector, payer, 2 * OPEN, 3 * OPEN));
        ledger.postBatch{value: OPEN}(m.b, sig, v, sigs);
        (v, sigs) = voucher(payer, server, OPEN);
        sigs[0] = sign(server, dsL, S.Statements.hash(v[0]));
        vm.expectRevert(abi.encodeWithSelector(Signed.BadSignature.selector, payer));
        ledger.postBatch{value: OPEN}(m.b, sig, v, sigs); // a server cannot sign for the payer
        (v, sigs) = voucher(payer, bob, OPEN);
        vm.expectRevert(abi.encodeWithSelector(Ledger.BadVoucher.selector, payer));
        ledger.postBatch{value: OPEN}(m.b, sig, v, sigs); // made out to another
        post(m);
        eq(ledger.vouched(payer, server), OPEN, "used");
    }

    function test_AVoucherPaysOnce() public {
        fund(payer, 2 * OPEN);
        settle(make(server, OPEN, golden(OPEN)));
        Made memory m = make(server, OPEN, golden(2 * OPEN));
        (S.Voucher[] memory v, bytes[] memory sigs) = voucher(payer, server, OPEN); // the old one
        bytes memory sig = sign(server, dsL, S.Statements.hash(m.b));
        vm.expectRevert(abi.encodeWithSelector(Ledger.BadVoucher.selector, payer));
        ledger.postBatch{value: OPEN}(m.b, sig, v, sigs);
    }

    function test_EscrowWithdrawalWaits() public {
        fund(payer, 2 * OPEN);
        vm.expectRevert(abi.encodeWithSelector(Ledger.NotSigner.selector, payer));
        ledger.requestWithdrawal(payer, OPEN);
        vm.prank(signer(payer));
        ledger.requestWithdrawal(payer, 2 * OPEN);
        vm.expectRevert(abi.encodeWithSelector(Ledger.NotReady.selector, uint64(time() + 2000)));
        ledger.withdraw(payer);
        settle(make(server, OPEN, golden(OPEN))); // vouchers reach it meanwhile
        vm.warp(time() + 2000);
        ledger.withdraw(payer);
        eq(payout(payer).balance, OPEN, "what is left");
        vm.expectRevert(Ledger.NothingThere.selector);
        ledger.withdraw(payer);
    }

    // Validation.

    function drawn(uint256 n) private returns (Made memory m) {
        for (uint64 i = 0; i < n; i++) {
            if (i > 0) newAccount(8 + i);
            stake(val + i, (i + 1) * OPEN);
        }
        vm.roll(height() + 1);
        fund(payer, OPEN);
        m = make(server, OPEN, golden(OPEN));
        post(m);
        draw(m);
    }

    function test_WindowsCloseEarlyAndSettle() public {
        Made memory m = drawn(1);
        S.Attestation memory a = attest(m, val, 1, m.traceRoot);
        vm.expectRevert(abi.encodeWithSelector(Ledger.WindowOpen.selector, uint64(time() + 60)));
        ledger.openTrace(m.id, m.traceRoot, m.traceSalt);
        commit(a);
        vm.expectRevert(Ledger.Already.selector);
        vm.prank(signer(val));
        ledger.commitVerdict(m.id, val, "again");
        ledger.openTrace(m.id, m.traceRoot, m.traceSalt);
        reveal(a);
        vm.expectRevert(abi.encodeWithSelector(Ledger.WindowOpen.selector, uint64(1_000_000 + 100)));
        ledger.finalize(m.id, m.b);
        vm.warp(1_000_000 + 100);
        S.Batch memory other = m.b;
        other.feeTotal++;
        vm.expectRevert(Ledger.WrongStatement.selector);
        ledger.finalize(m.id, other);
        other.feeTotal--;
        ledger.finalize(m.id, m.b);
        require(ledger.entryOf(m.id).state == Ledger.State.Settled, "settled");
        eq(ledger.entryOf(m.id).weightValid, OPEN, "weight");
    }

    function test_QuorumVoidsOnceThenRefunds() public {
        Made memory m = drawn(1);
        S.Attestation memory a = attest(m, val, 2, keccak256("another trace"));
        commit(a);
        ledger.openTrace(m.id, m.traceRoot, m.traceSalt);
        reveal(a);
        vm.warp(time() + 100);
        uint256 dead = DEAD.balance;
        ledger.finalize(m.id, m.b);
        require(ledger.entryOf(m.id).state == Ledger.State.Voided, "voided");
        eq(DEAD.balance - dead, OPEN / 10, "penalty");
        eq(ledger.escrow(server), OPEN - OPEN / 10, "rest of the bond");
        eq(ledger.escrow(payer), OPEN, "fee back");
        eq(ledger.vouched(payer, server), 0, "voucher counts again");
        eq(ledger.nextNumber(server), 0, "same number");
        eq(rewards.settledOf(server), 0, "nothing settled");
        // Once more, and void again: the vouchers are used up, the fee stays with the payer.
        Made memory m2 = make(server, OPEN, golden(OPEN));
        post(m2);
        draw(m2);
        a = attest(m2, val, 2, keccak256("another trace"));
        commit(a);
        ledger.openTrace(m2.id, m2.traceRoot, m2.traceSalt);
        reveal(a);
        vm.warp(time() + 100);
        ledger.finalize(m2.id, m2.b);
        eq(ledger.escrow(payer), OPEN, "refunded");
        eq(ledger.vouched(payer, server), OPEN, "used up");
        eq(ledger.nextNumber(server), 1, "next number");
        eq(ledger.nextSequence(server), 1, "calls given up");
    }

    function test_AVoidedBatchPostedRightSettles() public {
        Made memory m = drawn(1);
        S.Attestation memory a = attest(m, val, 2, 0);
        commit(a);
        ledger.openTrace(m.id, m.traceRoot, m.traceSalt);
        reveal(a);
        vm.warp(time() + 100);
        ledger.finalize(m.id, m.b);
        Made memory m2 = make(server, OPEN, golden(OPEN));
        post(m2);
        draw(m2);
        a = attest(m2, val, 1, m2.traceRoot);
        commit(a);
        ledger.openTrace(m2.id, m2.traceRoot, m2.traceSalt);
        reveal(a);
        vm.warp(time() + 100);
        ledger.finalize(m2.id, m2.b);
        require(ledger.entryOf(m2.id).state == Ledger.State.Settled, "settled");
        eq(rewards.settledOf(server), OPEN, "pot");
        eq(ledger.escrow(payer), 0, "paid");
    }

    function test_MinorityDoesNotVoid() public {
        Made memory m = drawn(3); // 1, 2 and 3 OPEN
        S.Attestation memory a = attest(m, val + 1, 2, 0); // 2 of 6: less than half
        S.Attestation memory b = attest(m, val + 2, 1, m.traceRoot);
        commit(a);
        commit(b);
        vm.warp(time() + 61); // val sleeps
        ledger.openTrace(m.id, m.traceRoot, m.traceSalt);
        reveal(a);
        reveal(b);
        vm.warp(time() + 100);
        ledger.finalize(m.id, m.b);
        require(ledger.entryOf(m.id).state == Ledger.State.Settled, "settled");
        eq(ledger.entryOf(m.id).weightInvalid, 2 * OPEN, "against");
        eq(ledger.entryOf(m.id).weightValid, 3 * OPEN, "for");
    }

    function test_AnEchoCountsForNothing() public {
        Made memory m = drawn(1);
        S.Attestation memory a = attest(m, val, 1, keccak256("guessed"));
        commit(a);
        ledger.openTrace(m.id, m.traceRoot, m.traceSalt);
        S.Attestation memory copy = attest(m, val, 1, m.traceRoot);
        bytes memory sig = sign(val, dsL, S.Statements.hash(copy));
        vm.expectRevert(Ledger.BadReveal.selector); // what was committed stands
        ledger.reveal(copy, sig, "");
        reveal(a);
        vm.warp(time() + 100);
        ledger.finalize(m.id, m.b);
        eq(ledger.entryOf(m.id).weightValid, 0, "nothing");
    }

    function test_UnopenedTraceVoids() public {
        Made memory m = drawn(1);
        S.Attestation memory a = attest(m, val, 1, m.traceRoot);
        commit(a);
        vm.expectRevert(Ledger.BadReveal.selector);
        ledger.openTrace(m.id, keccak256("other"), m.traceSalt);
        reveal(a);
        vm.warp(time() + 200);
        ledger.finalize(m.id, m.b);
        require(ledger.entryOf(m.id).state == Ledger.State.Voided, "voided");
    }

    function test_OnlyTheDrawnInTime() public {
        Made memory m = drawn(1);
        stake(carol, 5 * OPEN);
        vm.expectRevert(abi.encodeWithSelector(Ledger.NotDrawn.selector, carol));
        vm.prank(signer(carol));
        ledger.commitVerdict(m.id, carol, "x");
        vm.expectRevert(abi.encodeWithSelector(Ledger.NotSigner.selector, val));
        ledger.commitVerdict(m.id, val, "x");
        uint64 end = uint64(time() + 60);
        vm.warp(end + 1);
        vm.expectRevert(abi.encodeWithSelector(Ledger.WindowClosed.selector, end));
        vm.prank(signer(val));
        ledger.commitVerdict(m.id, val, "x");
    }

    function test_DrawWaitsAndRedraws() public {
        fund(payer, OPEN);
        Made memory m = make(server, OPEN, golden(OPEN));
        post(m);
        vm.expectRevert(abi.encodeWithSelector(Ledger.NotReady.selector, uint64(height() + 2)));
        ledger.draw(m.id);
        vm.roll(height() + 20_000);
        ledger.draw(m.id);
        require(ledger.entryOf(m.id).state == Ledger.State.Posted, "still posted");
        eq(ledger.entryOf(m.id).drawBlock, height() + 2, "new block");
    }

    function test_Equivocation() public {
        Made memory m = drawn(1);
        S.Attestation memory x = attest(m, val, 1, m.traceRoot);
        S.Attestation memory y = attest(m, val, 2, m.traceRoot);
        bytes memory sx = sign(val, dsL, S.Statements.hash(x));
        bytes memory sy = sign(val, dsL, S.Statements.hash(y));
        vm.expectRevert(Ledger.BadReveal.selector);
        ledger.proveEquivocation(x, sx, x, sx);
        ledger.proveEquivocation(x, sx, y, sy);
        (uint256 left,,,,,,) = validators.validators(val);
        eq(left, OPEN / 2, "slashed");
        vm.expectRevert(Ledger.Already.selector);
        ledger.proveEquivocation(x, sx, y, sy);
    }

    // Disputes.

    function wrongSum() private view returns (Disputes.Leaf[] memory t) {
        t = golden(OPEN);
        t[4].cumulative += 1; // prefix of the next not moved
    }

    function test_TwoLeavesProveAFalseSum() public {
        fund(payer, OPEN);
        Disputes.Leaf[] memory t = wrongSum();
        Made memory m = make(server, OPEN, t);
        post(m);
        bytes[] memory l = leafBytes(t);
        bytes32[] memory p3 = treeProof(l, 3);
        bytes32[] memory p4 = treeProof(l, 4);
        bytes32[] memory p5 = treeProof(l, 5);
        vm.expectRevert(Disputes.NotFalse.selector);
        disputes.proveSum(m.id, m.b, 3, t[3], p3, t[4], p4);
        vm.expectRevert(Disputes.NotInTree.selector);
        disputes.proveSum(m.id, m.b, 3, t[3], p3, t[5], p5);
        address finder = address(0xF1D);
        uint256 dead = DEAD.balance;
        vm.prank(finder);
        disputes.proveSum(m.id, m.b, 4, t[4], p4, t[5], p5);
        require(ledger.entryOf(m.id).state == Ledger.State.Slashed, "slashed");
        eq(finder.balance, OPEN / 2, "finder");
        eq(DEAD.balance - dead, OPEN / 2, "burnt");
        eq(ledger.escrow(payer), OPEN, "refunded");
        eq(ledger.escrow(server), 0, "bond gone");
        eq(address(ledger).balance, OPEN, "only the escrow is left");
        vm.expectRevert(abi.encodeWithSelector(Ledger.WrongState.selector, Ledger.State.Slashed));
        disputes.proveSum(m.id, m.b, 4, t[4], p4, t[5], p5);
        vm.warp(time() + 1000);
        vm.expectRevert(abi.encodeWithSelector(Ledger.WrongState.selector, Ledger.State.Slashed));
        ledger.finalize(m.id, m.b);
        // The poster may go on with the next number.
        settle(make(server, OPEN, golden(OPEN)));
    }

    function test_ValidatorsWhoCalledItValidLose() public {
        stake(val, 2 * OPEN);
        vm.roll(height() + 1);
        fund(payer, OPEN);
        Disputes.Leaf[] memory t = wrongSum();
        Made memory m = make(server, OPEN, t);
        post(m);
        draw(m);
        S.Attestation memory a = attest(m, val, 1, m.traceRoot);
        commit(a);
        reveal(a);
        bytes[] memory l = leafBytes(t);
        disputes.proveSum(m.id, m.b, 4, t[4], treeProof(l, 4), t[5], treeProof(l, 5));
        (uint256 left,,,,,,) = validators.validators(val);
        eq(left, 2 * OPEN - OPEN / 2, "slashed");
    }

    function test_EndsOfTheTable() public {
        fund(payer, OPEN);
        Disputes.Leaf[] memory t = golden(OPEN + 7); // adds up, but not to the fee
        Made memory m = make(server, OPEN, t);
        post(m);
        bytes[] memory l = leafBytes(t);
        bytes32[] memory p0 = treeProof(l, 0);
        vm.expectRevert(Disputes.NotFalse.selector);
        disputes.proveEnd(m.id, m.b, 0, t[0], p0);
        disputes.proveEnd(m.id, m.b, 5, t[5], treeProof(l, 5));
        require(ledger.entryOf(m.id).state == Ledger.State.Slashed, "slashed");
    }

    function test_OverflowingSumIsFalse() public {
        fund(payer, OPEN);
        Disputes.Leaf[] memory t = golden(OPEN);
        t[4].prefix = type(uint256).max;
        t[4].cumulative = 1 + t[5].prefix; // wraps to the next prefix
        Made memory m = make(server, OPEN, t);
        post(m);
        bytes[] memory l = leafBytes(t);
        disputes.proveSum(m.id, m.b, 4, t[4], treeProof(l, 4), t[5], treeProof(l, 5));
    }

    function testFuzz_TrueTablesCannotBeSlashed(uint64[6] memory parts, uint8 place) public {
        uint256 total = 0;
        uint64[] memory who = new uint64[](6);
        uint256[] memory sum = new uint256[](6);
        for (uint64 i = 0; i < 6; i++) {
            (who[i], sum[i]) = (i, uint256(parts[i]) + 1);
            total += sum[i];
        }
        vm.deal(address(this), total + 10 * OPEN);
        fund(payer, total);
        Disputes.Leaf[] memory t = table(who, sum);
        Made memory m = make(server, total, t);
        post(m);
        bytes[] memory l = leafBytes(t);
        uint64 k = place % 5;
        bytes32[] memory px = treeProof(l, k);
        bytes32[] memory py = treeProof(l, k + 1);
        vm.expectRevert(Disputes.NotFalse.selector);
        disputes.proveSum(m.id, m.b, k, t[k], px, t[k + 1], py);
        vm.expectRevert(Disputes.NotFalse.selector);
        disputes.proveEnd(m.id, m.b, k + 1, t[k + 1], py);
        vm.expectRevert(Disputes.NotFalse.selector);
        disputes.proveClaim(m.id, m.b, t[k], claimProof(t, k), t[k], px);
    }

    function test_Decrease() public {
        fund(payer, 2 * OPEN);
        Disputes.Leaf[] memory t = golden(OPEN);
        settle(make(server, OPEN, t));
        Disputes.Leaf[] memory t2 = golden(2 * OPEN);
        t2[4].cumulative = t[4].cumulative - 1;
        Made memory m = make(server, OPEN, t2);
        post(m);
        bytes32[] memory p3 = treeProof(leafBytes(t), 3);
        bytes32[] memory q3 = treeProof(leafBytes(t2), 3);
        vm.expectRevert(Disputes.NotFalse.selector);
        disputes.proveDecrease(m.id, m.b, 6, 3, t[3], p3, 3, t2[3], q3);
        disputes.proveDecrease(
            m.id, m.b, 6, 4, t[4], treeProof(leafBytes(t), 4), 4, t2[4], treeProof(leafBytes(t2), 4)
        );
        require(ledger.entryOf(m.id).state == Ledger.State.Slashed, "slashed");
    }

    function test_MissingAccount() public {
        fund(payer, 2 * OPEN);
        Disputes.Leaf[] memory t = golden(OPEN);
        settle(make(server, OPEN, t));
        uint64[] memory who = new uint64[](2);
        uint256[] memory sum = new uint256[](2);
        (who[0], sum[0], who[1], sum[1]) = (0, OPEN, bob, OPEN);
        Disputes.Leaf[] memory t2 = table(who, sum);
        Made memory m = make(server, OPEN, t2);
        post(m);
        bytes[] memory l = leafBytes(t);
        bytes[] memory l2 = leafBytes(t2);
        bytes32[] memory p5 = treeProof(l, 5);
        bytes32[] memory a = treeProof(l2, 0);
        bytes32[] memory b = treeProof(l2, 1);
        vm.expectRevert(Disputes.NotFalse.selector);
        disputes.proveMissing(m.id, m.b, 6, 5, t[5], p5, 0, t2[0], a, t2[1], b);
        vm.expectRevert(Disputes.NotFalse.selector);
        disputes.proveMissingEnd(m.id, m.b, 6, 5, t[5], p5, 1, t2[1], b);
        disputes.proveMissing(m.id, m.b, 6, 4, t[4], treeProof(l, 4), 0, t2[0], a, t2[1], b);
        require(ledger.entryOf(m.id).state == Ledger.State.Slashed, "slashed");
    }

    function test_MissingAtTheEnd() public {
        fund(payer, 2 * OPEN);
        Disputes.Leaf[] memory t = golden(OPEN);
        settle(make(server, OPEN, t));
        uint64[] memory who = new uint64[](1);
        uint256[] memory sum = new uint256[](1);
        (who[0], sum[0]) = (0, 2 * OPEN);
        Disputes.Leaf[] memory t2 = table(who, sum);
        Made memory m = make(server, OPEN, t2);
        post(m);
        disputes.proveMissingEnd(
            m.id, m.b, 6, 5, t[5], treeProof(leafBytes(t), 5), 0, t2[0], treeProof(leafBytes(t2), 0)
        );
        require(ledger.entryOf(m.id).state == Ledger.State.Slashed, "slashed");
    }

    function test_SequenceFeeLinkCount() public {
        fund(payer, 4 * OPEN);
        Disputes.Leaf[] memory t = golden(OPEN);
        bytes32[] memory none = new bytes32[](0);
        Made memory m = make(server, OPEN, t);
        post(m);
        vm.expectRevert(Disputes.NotFalse.selector);
        disputes.proveSequence(m.id, m.b, 0, m.inference, none);
        vm.expectRevert(Disputes.NotFalse.selector);
        disputes.proveFee(m.id, m.b, 0, m.request, none, m.inference, none);
        bytes32 ih = S.Statements.hash(m.inference);
        vm.expectRevert(Disputes.NotFalse.selector);
        disputes.proveLink(m.id, m.b, 0, ih, none, m.attribution, none);
        bytes32 top = keccak256(abi.encodePacked(bytes1(0x00), ih));
        vm.expectRevert(Disputes.NotFalse.selector);
        disputes.proveCount(m.id, m.b, 1, 1, top);
        draw(m);
        vm.warp(time() + 101);
        ledger.finalize(m.id, m.b);

        Disputes.Leaf[] memory t2 = golden(2 * OPEN);
        m = make(server, OPEN, t2);
        m.inference.sequence = 7;
        remake(m, t2);
        post(m);
        disputes.proveSequence(m.id, m.b, 0, m.inference, none);

        m = make(server, OPEN, t2);
        m.inference.fee = OPEN + 1;
        remake(m, t2);
        post(m);
        disputes.proveFee(m.id, m.b, 0, m.request, none, m.inference, none);

        m = make(server, OPEN, t2);
        m.attribution.inferenceHash = "another";
        remake(m, t2);
        post(m);
        disputes.proveLink(m.id, m.b, 0, S.Statements.hash(m.inference), none, m.attribution, none);

        m = make(server, OPEN, t2);
        m.b.callCount = 2;
        post(m);
        disputes.proveCount(
            m.id, m.b, 0, 1, keccak256(abi.encodePacked(bytes1(0x00), S.Statements.hash(m.request)))
        );
        eq(ledger.nextSequence(server), 1 + 1 + 1 + 1 + 2, "calls given up");
    }

    function test_FalseClaimTree() public {
        fund(payer, OPEN);
        Disputes.Leaf[] memory t = golden(OPEN);
        Made memory m = make(server, OPEN, t);
        Disputes.Leaf[] memory other = golden(OPEN);
        other[5].cumulative += 1;
        m.b.claimRoot = claimNodes(other)[0];
        post(m);
        bytes32[] memory cp = claimProof(other, 5);
        disputes.proveClaim(m.id, m.b, other[5], cp, t[5], treeProof(leafBytes(t), 5));
        require(ledger.entryOf(m.id).state == Ledger.State.Slashed, "slashed");
    }

    function test_OnlyDisputesSlash() public {
        Made memory m = drawn(1);
        vm.expectRevert(Ledger.NotDisputes.selector);
        ledger.slashBatch(m.id, address(this), "I say so");
        vm.expectRevert(Validators.NotLedger.selector);
        validators.slash(val, 1);
        vm.expectRevert(Rewards.NotLedger.selector);
        rewards.settle(server, 0, 0, 0);
    }

    // Demands.

    function test_ADemandedLeafIsShown() public {
        fund(payer, OPEN);
        Disputes.Leaf[] memory t = golden(OPEN);
        Made memory m = make(server, OPEN, t);
        post(m);
        draw(m);
        ledger.demandLeaf{value: OPEN / 100}(m.id, m.b, 3, 2);
        vm.expectRevert(abi.encodeWithSelector(Ledger.DemandOpen.selector, uint64(time() + 50)));
        ledger.demandLeaf{value: OPEN / 100}(m.id, m.b, 3, 3);
        bytes[] memory l = leafBytes(t);
        bytes32[] memory p2 = treeProof(l, 2);
        bytes32[] memory p1 = treeProof(l, 1);
        vm.expectRevert(Ledger.BadAnswer.selector);
        ledger.showLeaf(m.id, m.b, l[1], p1);
        ledger.showLeaf(m.id, m.b, l[2], p2);
        vm.warp(time() + 101);
        ledger.finalize(m.id, m.b);
        eq(ledger.escrow(server), OPEN + OPEN / 100, "bond and the price");
    }

    function test_SilenceLoses() public {
        fund(payer, OPEN);
        Made memory m = make(server, OPEN, golden(OPEN));
        post(m);
        draw(m);
        ledger.demandLeaf{value: OPEN / 100}(m.id, m.b, 1, 0);
        vm.expectRevert(abi.encodeWithSelector(Ledger.WindowOpen.selector, uint64(time() + 50)));
        ledger.silence(m.id);
        vm.warp(time() + 150);
        vm.expectRevert(abi.encodeWithSelector(Ledger.DemandOpen.selector, uint64(1_000_050)));
        ledger.finalize(m.id, m.b);
        address finder = address(0xF1D);
        vm.prank(finder);
        ledger.silence(m.id);
        eq(finder.balance, (OPEN + OPEN / 100) / 2, "finder");
        eq(ledger.escrow(server), 0, "price taken back");
    }
}

// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Base} from "./Base.sol";
import {Datanets} from "../src/Datanets.sol";
import {Models} from "../src/Models.sol";
import {Signed} from "../src/Signed.sol";
import {Blockhash} from "@openzeppelin/contracts/utils/Blockhash.sol";
import * as S from "../src/Statements.sol";

contract DatanetsTest is Base {
    uint64 net;

    function setUp() public override {
        super.setUp();
        S.Datanet memory d = S.Datanet(server, "facts", "CC0-1.0", keccak256("terms"), nonce(), never());
        net = datanets.create(d, sign(server, dsD, S.Statements.hash(d)));
    }

    function rows(uint64 who, uint256 from, uint256 n) private pure returns (bytes[] memory l) {
        l = new bytes[](n);
        for (uint256 i = 0; i < n; i++) l[i] = abi.encodePacked(keccak256(abi.encode("row", from + i)), who);
    }

    function statement(uint64 who, bytes[] memory l) private returns (S.Contribution memory c) {
        c.account = who;
        c.datanet = net;
        c.rowRoot = treeRoot(l);
        c.rowCount = uint64(l.length);
        c.licence = "CC0-1.0";
        c.dataHash = keccak256("data");
        c.nonce = nonce();
        c.expiry = never();
    }

    function contribute(uint64 who, bytes[] memory l) private returns (uint64) {
        S.Contribution memory c = statement(who, l);
        bytes32 h = S.Statements.hash(c);
        datanets.commit(keccak256(abi.encode(h, bytes32("salt"))));
        vm.roll(height() + 1);
        return datanets.reveal(c, "salt", sign(who, dsD, h));
    }

    function test_CommitThenReveal() public {
        S.Contribution memory c = statement(alice, rows(alice, 0, 5));
        bytes32 h = S.Statements.hash(c);
        bytes memory sig = sign(alice, dsD, h);
        vm.expectRevert(Datanets.NotCommitted.selector);
        datanets.reveal(c, "salt", sig);
        datanets.commit(keccak256(abi.encode(h, bytes32("salt"))));
        vm.expectRevert(Datanets.TooEarly.selector);
        datanets.reveal(c, "salt", sig);
        vm.roll(height() + 1);
        vm.expectRevert(Datanets.NotCommitted.selector);
        datanets.reveal(c, "other", sig);
        eq(datanets.reveal(c, "salt", sig), 1, "number");
        vm.expectRevert(abi.encodeWithSelector(Signed.NonceUsed.selector, alice, c.nonce));
        datanets.reveal(c, "salt", sig);
    }

    function test_ACopiedRevealFailsWithoutAnEarlierCommit() public {
        // bob sees alice's reveal in the pool and wants her rows under his name: his leaves differ, and his commitment is later.
        S.Contribution memory c = statement(alice, rows(alice, 0, 3));
        bytes32 h = S.Statements.hash(c);
        datanets.commit(keccak256(abi.encode(h, bytes32("salt"))));
        vm.roll(height() + 1);
        c.account = bob;
        bytes memory sig = sign(bob, dsD, S.Statements.hash(c));
        vm.expectRevert(Datanets.NotCommitted.selector);
        datanets.reveal(c, "salt", sig);
    }

    function test_RevealWindow() public {
        S.Contribution memory c = statement(alice, rows(alice, 0, 1));
        bytes32 h = S.Statements.hash(c);
        datanets.commit(keccak256(abi.encode(h, bytes32("salt"))));
        vm.roll(height() + 1);
        uint64 until = uint64(time()) + 600;
        vm.warp(until + 1);
        vm.expectRevert(abi.encodeWithSelector(Datanets.TooLate.selector, until));
        datanets.reveal(c, "salt", sign(alice, dsD, h));
    }

    function test_CommittingAgainChangesNothing() public {
        datanets.commit("x");
        (uint64 order, uint64 b,) = datanets.commits("x");
        vm.roll(height() + 9);
        vm.prank(address(0xbad));
        datanets.commit("x");
        (uint64 order2, uint64 b2,) = datanets.commits("x");
        eq(order, order2, "order");
        eq(b, b2, "block");
    }

    function test_DuplicateRowVoidsTheLater() public {
        bytes[] memory a = rows(alice, 0, 5);
        bytes[] memory b = rows(bob, 3, 4); // rows 3 and 4 are alice's
        uint64 first = contribute(alice, a);
        uint64 second = contribute(bob, b);
        bytes32 row = keccak256(abi.encode("row", uint256(4)));
        bytes32[] memory pa = treeProof(a, 4);
        bytes32[] memory pb = treeProof(b, 1);
        vm.expectRevert(Datanets.NotEarlier.selector);
        datanets.challengeDuplicate(row, second, 1, pb, first, 4, pa);
        vm.expectRevert(Datanets.BadProof.selector);
        datanets.challengeDuplicate(row, first, 4, pa, second, 2, pb);
        datanets.challengeDuplicate(row, first, 4, pa, second, 1, pb);
        require(datanets.rowVoid(second, 1) && !datanets.rowVoid(first, 4), "void");
        (,,,, uint64 voided,,) = datanets.contributions(second);
        eq(voided, 1, "count");
        vm.expectRevert(Datanets.AlreadyVoid.selector);
        datanets.challengeDuplicate(row, first, 4, pa, second, 1, pb);
    }

    function test_DuplicateWithinOne() public {
        bytes[] memory a = rows(alice, 0, 3);
        a[2] = a[0];
        uint64 id = contribute(alice, a);
        bytes32 row = keccak256(abi.encode("row", uint256(0)));
        bytes32[] memory p0 = treeProof(a, 0);
        bytes32[] memory p2 = treeProof(a, 2);
        vm.expectRevert(Datanets.NotEarlier.selector);
        datanets.challengeDuplicate(row, id, 0, p0, id, 0, p0);
        vm.expectRevert(Datanets.NotEarlier.selector);
        datanets.challengeDuplicate(row, id, 2, p2, id, 0, p0);
        datanets.challengeDuplicate(row, id, 0, p0, id, 2, p2);
        require(datanets.rowVoid(id, 2), "later void");
    }

    function test_Refusals() public {
        S.Datanet memory d = S.Datanet(server, "", "CC0-1.0", 0, nonce(), never());
        bytes memory sig = sign(server, dsD, S.Statements.hash(d));
        vm.expectRevert(Datanets.BadName.selector);
        datanets.create(d, sig);
        S.Contribution memory c = statement(alice, rows(alice, 0, 1));
        c.datanet = 9;
        vm.expectRevert(abi.encodeWithSelector(Datanets.NoDatanet.selector, 9));
        datanets.reveal(c, "salt", sig);
        vm.expectRevert(abi.encodeWithSelector(Datanets.NoContribution.selector, 5));
        datanets.challengeDuplicate(0, 5, 0, new bytes32[](0), 6, 0, new bytes32[](0));
    }

    // Models.

    function recipe() private returns (S.Recipe memory r, uint64 id) {
        r.trainer = server;
        r.dataRoot = keccak256("rows");
        r.dataCount = 3;
        r.arithmetic = "arith-1";
        r.nonce = nonce();
        r.expiry = never();
        id = models.recipe(r, sign(server, dsM, S.Statements.hash(r)));
    }

    function test_SeedComesFromALaterBlock() public {
        (S.Recipe memory r, uint64 id) = recipe();
        uint64 place = uint64(height()) + 2;
        vm.roll(place);
        vm.expectRevert(abi.encodeWithSelector(Models.TooEarly.selector, place));
        models.fixSeed(id);
        vm.roll(place + 1);
        bytes32 want = keccak256(abi.encode(S.Statements.hash(r), r.dataRoot, blockhash(place)));
        eq(models.fixSeed(id), want, "seed");
        vm.expectRevert(Models.SeedFixed.selector);
        models.fixSeed(id);

        S.Training memory t;
        t.trainer = server;
        t.model = id;
        t.recipeHash = S.Statements.hash(r);
        t.seed = keccak256("mine");
        t.adapterHash = keccak256("adapter");
        t.nonce = nonce();
        t.expiry = never();
        bytes memory sig = sign(server, dsM, S.Statements.hash(t));
        vm.expectRevert(Models.Mismatch.selector);
        models.publish(t, sig);
        t.seed = want;
        sig = sign(bob, dsM, S.Statements.hash(t));
        vm.expectRevert(abi.encodeWithSelector(Signed.BadSignature.selector, server));
        models.publish(t, sig);
        sig = sign(server, dsM, S.Statements.hash(t));
        models.publish(t, sig);
        require(models.published(id), "published");
        vm.expectRevert(Models.AlreadyPublished.selector);
        models.publish(t, sig);
    }

    function test_AMissedSeedBlockIsReplacedAndCounted() public {
        (, uint64 id) = recipe();
        vm.roll(height() + 20_000); // past the history contract's reach
        eq(models.fixSeed(id), bytes32(0), "none");
        (, uint64 place, uint32 redraws,,,, bytes32 seed,,,) = models.models(id);
        eq(redraws, 1, "redraws");
        eq(seed, bytes32(0), "seed");
        eq(place, height() + 2, "new block");
    }
}

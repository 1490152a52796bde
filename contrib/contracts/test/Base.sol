// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IAccounts} from "../src/Signed.sol";
import {Accounts} from "../src/Accounts.sol";
import {Datanets} from "../src/Datanets.sol";
import {Models} from "../src/Models.sol";
import {Validators} from "../src/Validators.sol";
import {Ledger, IValidators, IRewards} from "../src/Ledger.sol";
import {Disputes, ILedger} from "../src/Disputes.sol";
import {Rewards} from "../src/Rewards.sol";
import {Trees} from "../src/Trees.sol";
import {Hashes} from "@openzeppelin/contracts/utils/cryptography/Hashes.sol";
import * as S from "../src/Statements.sol";

// What the tests use of forge's cheat codes (https://getfoundry.sh/reference/cheatcodes/overview).
interface Vm {
    function addr(uint256 key) external pure returns (address);
    function sign(uint256 key, bytes32 digest) external pure returns (uint8 v, bytes32 r, bytes32 s);
    function prank(address) external;
    function deal(address, uint256) external;
    function warp(uint256) external;
    function roll(uint256) external;
    function expectRevert() external;
    function expectRevert(bytes4) external;
    function expectRevert(bytes calldata) external;
    function assume(bool) external pure;
    function getNonce(address) external view returns (uint64);
    function computeCreateAddress(address, uint256) external pure returns (address);
    function getBlockTimestamp() external view returns (uint256);
    function getBlockNumber() external view returns (uint256);
}

// Calls Trees with memory turned into calldata.
contract TreesHarness {
    function has(bytes32 root, uint64 count, uint64 index, bytes calldata data, bytes32[] calldata proof)
        external
        pure
        returns (bool)
    {
        return Trees.has(root, count, index, data, proof);
    }
}

/// A whole deployment, six actors, and the trees built the plain way.
abstract contract Base {
    Vm internal constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));
    uint256 internal constant KEY = 1000; // the signing key of account a is KEY + a
    uint256 internal constant OPEN = 1e18;

    Accounts accounts;
    Datanets datanets;
    Models models;
    Validators validators;
    Ledger ledger;
    Disputes disputes;
    Rewards rewards;

    uint64 server; // poster
    uint64 payer;
    uint64 alice;
    uint64 bob;
    uint64 carol;
    uint64 val; // validator
    uint256 private _nonce;
    bytes32 dsA; // domain separators: read before expectRevert, which takes the next call for the one meant
    bytes32 dsD;
    bytes32 dsM;
    bytes32 dsL;

    receive() external payable {}

    function setUp() public virtual {
        vm.roll(100);
        vm.warp(1_000_000);
        vm.deal(address(this), 1000 * OPEN);
        uint64 n = vm.getNonce(address(this));
        address[7] memory place;
        for (uint256 i = 0; i < 7; i++) place[i] = vm.computeCreateAddress(address(this), n + i);
        accounts = new Accounts(signer(1), payout(1), recovery(1), place[3], 1000);
        IAccounts ia = IAccounts(address(accounts));
        datanets = new Datanets(ia, 600);
        models = new Models(ia, 2);
        validators = new Validators(ia, place[4], 1 * OPEN, 5000);
        ledger = new Ledger(
            ia,
            IValidators(place[3]),
            IRewards(place[6]),
            place[5],
            Ledger.Params({
                drawDelay: 2,
                commitWindow: 60,
                revealWindow: 60,
                challengeWindow: 100,
                demandWindow: 50,
                escrowDelay: 2000,
                minBond: 1 * OPEN,
                voidPenalty: OPEN / 10,
                demandDeposit: OPEN / 100,
                validatorPenalty: OPEN / 2,
                committeeSize: 3,
                voidQuorum: 5000
            })
        );
        disputes = new Disputes(ILedger(place[4]));
        rewards = new Rewards(ia, place[4]);
        require(address(rewards) == place[6] && address(ledger) == place[4], "addresses");
        (dsA, dsD) = (accounts.domainSeparator(), datanets.domainSeparator());
        (dsM, dsL) = (models.domainSeparator(), ledger.domainSeparator());
        server = newAccount(3);
        payer = newAccount(4);
        alice = newAccount(5);
        bob = newAccount(6);
        carol = newAccount(7);
        val = newAccount(8);
    }

    // Time. Read through the cheat code: the optimizer takes block.timestamp for the same all through a test.

    function time() internal view returns (uint256) {
        return vm.getBlockTimestamp();
    }

    function height() internal view returns (uint256) {
        return vm.getBlockNumber();
    }

    // Keys, signatures, accounts.

    function signer(uint64 a) internal pure returns (address) {
        return vm.addr(KEY + a);
    }

    function payout(uint64 a) internal pure returns (address) {
        return address(uint160(0xAA0000 + a));
    }

    function recovery(uint64 a) internal pure returns (address) {
        return vm.addr(KEY + 500 + a);
    }

    function nonce() internal returns (uint256) {
        return ++_nonce;
    }

    function never() internal pure returns (uint64) {
        return type(uint64).max;
    }

    function signWith(uint256 key, bytes32 domain, bytes32 h) internal pure returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(key, keccak256(abi.encodePacked(hex"1901", domain, h)));
        return abi.encodePacked(r, s, v);
    }

    function sign(uint64 a, bytes32 domain, bytes32 h) internal pure returns (bytes memory) {
        return signWith(KEY + a, domain, h);
    }

    function newAccount(uint64 want) internal returns (uint64 id) {
        S.Register memory r = S.Register(signer(want), payout(want), recovery(want), nonce(), never());
        id = accounts.register(r, sign(want, dsA, S.Statements.hash(r)));
        require(id == want, "account number");
    }

    function stake(uint64 a, uint256 amount) internal {
        vm.deal(signer(a), amount);
        vm.prank(signer(a));
        validators.stake{value: amount}(a);
    }

    // Trees, level by level.

    function treeRoot(bytes[] memory leaves) internal pure returns (bytes32) {
        bytes32[] memory l = hashes(leaves);
        uint256 n = l.length;
        while (n > 1) n = up(l, n);
        return Trees.root(uint64(leaves.length), leaves.length == 0 ? bytes32(0) : l[0]);
    }

    function treeProof(bytes[] memory leaves, uint256 place) internal pure returns (bytes32[] memory proof) {
        bytes32[] memory l = hashes(leaves);
        uint256 n = l.length;
        bytes32[] memory p = new bytes32[](64);
        uint256 k = 0;
        while (n > 1) {
            if (place ^ 1 < n) p[k++] = l[place ^ 1];
            n = up(l, n);
            place /= 2;
        }
        proof = new bytes32[](k);
        for (uint256 i = 0; i < k; i++) proof[i] = p[i];
    }

    function hashes(bytes[] memory leaves) private pure returns (bytes32[] memory l) {
        l = new bytes32[](leaves.length);
        for (uint256 i = 0; i < l.length; i++) l[i] = Trees.leaf(leaves[i]);
    }

    function up(bytes32[] memory l, uint256 n) private pure returns (uint256) {
        for (uint256 i = 0; i + 1 < n; i += 2) l[i / 2] = keccak256(abi.encodePacked(bytes1(0x01), l[i], l[i + 1]));
        if (n % 2 == 1) l[n / 2] = l[n - 1];
        return (n + 1) / 2;
    }

    // The claim tree: OpenZeppelin's layout, leaves sorted by hash, in an array with the root at 0.

    function claimNodes(Disputes.Leaf[] memory t) internal pure returns (bytes32[] memory tree) {
        bytes32[] memory h = new bytes32[](t.length);
        for (uint256 i = 0; i < t.length; i++) h[i] = claimLeaf(t[i]);
        for (uint256 i = 1; i < h.length; i++) {
            for (uint256 j = i; j > 0 && h[j - 1] > h[j]; j--) (h[j - 1], h[j]) = (h[j], h[j - 1]);
        }
        tree = new bytes32[](2 * h.length - 1);
        for (uint256 i = 0; i < h.length; i++) tree[tree.length - 1 - i] = h[i];
        for (uint256 i = tree.length - h.length; i > 0; i--) {
            tree[i - 1] = Hashes.commutativeKeccak256(tree[2 * i - 1], tree[2 * i]);
        }
    }

    function claimLeaf(Disputes.Leaf memory x) internal pure returns (bytes32) {
        return keccak256(bytes.concat(keccak256(abi.encode(x.index, x.account, x.prefix, x.cumulative))));
    }

    function claimProof(Disputes.Leaf[] memory t, uint256 place) internal pure returns (bytes32[] memory proof) {
        bytes32[] memory tree = claimNodes(t);
        bytes32 leaf = claimLeaf(t[place]);
        uint256 i = tree.length - t.length;
        while (tree[i] != leaf) i++;
        bytes32[] memory p = new bytes32[](64);
        uint256 k = 0;
        while (i > 0) {
            p[k++] = tree[i % 2 == 1 ? i + 1 : i - 1];
            i = (i - 1) / 2;
        }
        proof = new bytes32[](k);
        for (uint256 j = 0; j < k; j++) proof[j] = p[j];
    }

    // Payout tables.

    function table(uint64[] memory who, uint256[] memory cumulative) internal pure returns (Disputes.Leaf[] memory t) {
        t = new Disputes.Leaf[](who.length);
        uint256 prefix = 0;
        for (uint64 i = 0; i < who.length; i++) {
            t[i] = Disputes.Leaf(i, who[i], prefix, cumulative[i]);
            prefix += cumulative[i];
        }
    }

    function leafBytes(Disputes.Leaf[] memory t) internal pure returns (bytes[] memory l) {
        l = new bytes[](t.length);
        for (uint256 i = 0; i < t.length; i++) l[i] = abi.encode(t[i].index, t[i].account, t[i].prefix, t[i].cumulative);
    }

    /// The golden split of one fee: 10 platform, 20 model (the server), 20 stakers, 50 contributors, of which alice has
    /// a quarter, bob half, and a quarter is burnt.
    function golden(uint256 total) internal view returns (Disputes.Leaf[] memory) {
        uint64[] memory who = new uint64[](6);
        uint256[] memory sum = new uint256[](6);
        (who[0], who[1], who[2], who[3], who[4], who[5]) = (0, 1, 2, server, alice, bob);
        sum[0] = total / 8;
        sum[1] = total / 10;
        sum[2] = total / 5;
        sum[3] = total / 5;
        sum[4] = total / 8;
        sum[5] = total - sum[0] - sum[1] - sum[2] - sum[3] - sum[4];
        return table(who, sum);
    }

    // Batches. One call each: request, inference, attribution.

    struct Made {
        uint64 id;
        S.Batch b;
        S.Request request;
        S.Inference inference;
        S.Attribution attribution;
        bytes32 traceRoot;
        bytes32 traceSalt;
    }

    function one(bytes32 h) internal pure returns (bytes32) {
        bytes[] memory l = new bytes[](1);
        l[0] = abi.encode(h);
        return treeRoot(l);
    }

    function make(uint64 poster, uint256 fee, Disputes.Leaf[] memory t) internal returns (Made memory m) {
        m.request.payer = payer;
        m.request.server = poster;
        m.request.model = 1;
        m.request.maxFee = fee;
        m.request.nonce = nonce();
        m.inference.requestHash = S.Statements.hash(m.request);
        m.inference.server = poster;
        m.inference.sequence = ledger.nextSequence(poster);
        m.inference.model = 1;
        m.inference.fee = fee;
        m.attribution.inferenceHash = S.Statements.hash(m.inference);
        m.traceRoot = keccak256("trace");
        m.traceSalt = keccak256("salt");
        remake(m, t);
        m.b.poster = poster;
        m.b.number = ledger.nextNumber(poster);
        m.b.callCount = 1;
        m.b.firstSequence = ledger.nextSequence(poster);
        m.b.feeTotal = fee;
        m.b.previousPayoutRoot = rewards.payoutRootOf(poster);
        m.b.payoutTotal = rewards.settledOf(poster) + fee;
        m.b.traceCommitment = keccak256(abi.encode(m.traceRoot, m.traceSalt));
        m.b.nonce = nonce();
        m.b.expiry = never();
    }

    function remake(Made memory m, Disputes.Leaf[] memory t) internal pure {
        m.b.requestRoot = one(S.Statements.hash(m.request));
        m.b.inferenceRoot = one(S.Statements.hash(m.inference));
        m.b.attributionRoot = one(S.Statements.hash(m.attribution));
        m.b.payoutRoot = treeRoot(leafBytes(t));
        m.b.payoutCount = uint64(t.length);
        m.b.claimRoot = claimNodes(t)[0];
    }

    function fund(uint64 who, uint256 amount) internal {
        ledger.deposit{value: amount}(who);
    }

    function voucher(uint64 from, uint64 to, uint256 cumulative)
        internal
        view
        returns (S.Voucher[] memory v, bytes[] memory sigs)
    {
        v = new S.Voucher[](1);
        sigs = new bytes[](1);
        v[0] = S.Voucher(from, to, cumulative, never());
        sigs[0] = sign(from, dsL, S.Statements.hash(v[0]));
    }

    function post(Made memory m) internal {
        (S.Voucher[] memory v, bytes[] memory sigs) =
            voucher(payer, m.b.poster, ledger.vouched(payer, m.b.poster) + m.b.feeTotal);
        bytes memory sig = sign(m.b.poster, dsL, S.Statements.hash(m.b));
        m.id = ledger.postBatch{value: OPEN}(m.b, sig, v, sigs);
    }

    function draw(Made memory m) internal {
        vm.roll(height() + 5);
        ledger.draw(m.id);
    }

    function attest(Made memory m, uint64 who, uint8 verdict, bytes32 root) internal pure returns (S.Attestation memory) {
        return S.Attestation(who, m.id, verdict, root, keccak256(abi.encode(who)));
    }

    function commit(S.Attestation memory a) internal {
        vm.prank(signer(a.validator));
        ledger.commitVerdict(
            a.batch,
            a.validator,
            keccak256(abi.encode(block.chainid, address(ledger), a.batch, a.validator, a.verdict, a.traceRoot, a.salt))
        );
    }

    function reveal(S.Attestation memory a) internal {
        ledger.reveal(a, sign(a.validator, dsL, S.Statements.hash(a)), "because");
    }

    /// Unchallenged: no validator has a stake.
    function settle(Made memory m) internal {
        post(m);
        draw(m);
        vm.warp(time() + 101);
        ledger.finalize(m.id, m.b);
    }

    function claim(Disputes.Leaf[] memory t, uint64 poster, uint256 place) internal returns (uint256) {
        return rewards.claim(
            poster, t[place].index, t[place].account, t[place].prefix, t[place].cumulative, claimProof(t, place)
        );
    }

    function eq(uint256 a, uint256 b, string memory what) internal pure {
        if (a != b) revert(string.concat(what, ": ", str(a), " != ", str(b)));
    }

    function eq(bytes32 a, bytes32 b, string memory what) internal pure {
        require(a == b, what);
    }

    function str(uint256 v) internal pure returns (string memory) {
        if (v == 0) return "0";
        bytes memory out = new bytes(78);
        uint256 i = 78;
        while (v != 0) {
            out[--i] = bytes1(uint8(48 + v % 10));
            v /= 10;
        }
        bytes memory s = new bytes(78 - i);
        for (uint256 k = 0; k < s.length; k++) s[k] = out[i + k];
        return string(s);
    }
}

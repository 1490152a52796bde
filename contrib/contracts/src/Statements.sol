// SPDX-License-Identifier: Apache-2.0
// Written by contrib/contracts/gen_statements from engine/record/statements.def; do not edit (make statements).
pragma solidity ^0.8.24;

struct Register {
    address signing;
    address payout;
    address recovery;
    uint256 nonce;
    uint64 expiry;
}

struct Rotate {
    uint64 account;
    address signing;
    address payout;
    uint256 nonce;
    uint64 expiry;
}

struct Datanet {
    uint64 owner;
    string name;
    string licence;
    bytes32 termsHash;
    uint256 nonce;
    uint64 expiry;
}

struct Contribution {
    uint64 account;
    uint64 datanet;
    bytes32 rowRoot;
    uint64 rowCount;
    string licence;
    bytes32 dataHash;
    uint64 dataLength;
    string dataLocator;
    uint256 nonce;
    uint64 expiry;
}

struct Recipe {
    uint64 trainer;
    bytes32 baseHash;
    bytes32 tokenizerHash;
    bytes32 templateHash;
    bytes32 dataRoot;
    uint64 dataCount;
    bytes32 hyperHash;
    string arithmetic;
    uint256 nonce;
    uint64 expiry;
}

struct Training {
    uint64 trainer;
    uint64 model;
    bytes32 recipeHash;
    bytes32 seed;
    bytes32 adapterHash;
    bytes32 checkpointRoot;
    uint64 checkpointCount;
    bytes32 stepRoot;
    uint64 stepCount;
    bytes32 dampingRoot;
    bytes32 rowsRoot;
    bytes32 rowsFineRoot;
    bytes32 dataHash;
    uint64 dataLength;
    string dataLocator;
    uint256 nonce;
    uint64 expiry;
}

struct Request {
    uint64 payer;
    uint64 server;
    uint64 model;
    bytes32 promptCommitment;
    uint8 privacy;
    bytes32 samplerHash;
    uint256 maxFee;
    uint256 nonce;
    uint64 expiry;
}

struct Voucher {
    uint64 payer;
    uint64 server;
    uint256 cumulative;
    uint64 expiry;
}

struct Inference {
    bytes32 requestHash;
    uint64 server;
    uint64 sequence;
    uint64 model;
    string act;
    string arithmetic;
    bytes32 promptCommitment;
    bytes32 outputCommitment;
    uint32 tokensIn;
    uint32 tokensOut;
    bytes32 seed;
    uint8 stopReason;
    uint256 fee;
    uint64 recordBy;
}

struct Attribution {
    bytes32 inferenceHash;
    string method;
    bytes32 parametersHash;
    bytes32 scoreRoot;
    uint64 scoreCount;
    bytes32 netRoot;
    int256 noiseFloor;
    bytes32 shareRoot;
}

struct Batch {
    uint64 poster;
    uint64 number;
    bytes32 requestRoot;
    bytes32 inferenceRoot;
    bytes32 attributionRoot;
    uint64 callCount;
    uint64 firstSequence;
    uint256 feeTotal;
    bytes32 previousPayoutRoot;
    bytes32 payoutRoot;
    uint64 payoutCount;
    uint256 payoutTotal;
    bytes32 claimRoot;
    bytes32 traceCommitment;
    bytes32 dataHash;
    uint64 dataLength;
    string dataLocator;
    uint256 nonce;
    uint64 expiry;
}

struct Attestation {
    uint64 validator;
    uint64 batch;
    uint8 verdict;
    bytes32 traceRoot;
    bytes32 salt;
}

/// EIP-712 type hashes and struct hashes of every statement. Domain: name "loam", version "1".
library Statements {
    string internal constant DOMAIN_NAME = "loam";
    string internal constant DOMAIN_VERSION = "1";

    // Register(address signing,address payout,address recovery,uint256 nonce,uint64 expiry)
    bytes32 internal constant REGISTER_TYPEHASH =
        0x48b9dce8369085554fbdbd6db59b6c43e9b74c1d3aca0a66086b3f96e2147021;

    function hash(Register memory s) internal pure returns (bytes32) {
        return keccak256(
            bytes.concat(
                abi.encode(REGISTER_TYPEHASH, s.signing, s.payout, s.recovery, s.nonce, s.expiry)
            )
        );
    }

    // Rotate(uint64 account,address signing,address payout,uint256 nonce,uint64 expiry)
    bytes32 internal constant ROTATE_TYPEHASH =
        0xfa3b2f0e71f601971932ebb2cb35cd151e79ce590fa8c8f998dbfeabce440eb8;

    function hash(Rotate memory s) internal pure returns (bytes32) {
        return keccak256(
            bytes.concat(
                abi.encode(ROTATE_TYPEHASH, s.account, s.signing, s.payout, s.nonce, s.expiry)
            )
        );
    }

    // Datanet(uint64 owner,string name,string licence,bytes32 termsHash,uint256 nonce,uint64 expiry)
    bytes32 internal constant DATANET_TYPEHASH =
        0x1c5f0cd4e90d598cdd43cc01323593f14135ba78c535cb2bb6621ec08050143e;

    function hash(Datanet memory s) internal pure returns (bytes32) {
        return keccak256(
            bytes.concat(
                abi.encode(DATANET_TYPEHASH, s.owner, keccak256(bytes(s.name)), keccak256(bytes(s.licence)), s.termsHash, s.nonce),
                abi.encode(s.expiry)
            )
        );
    }

    // Contribution(uint64 account,uint64 datanet,bytes32 rowRoot,uint64 rowCount,string licence,bytes32 dataHash,uint64 dataLength,string dataLocator,uint256 nonce,uint64 expiry)
    bytes32 internal constant CONTRIBUTION_TYPEHASH =
        0x44990d52a1abebbad558eee7114dd12f1f7f89780c4e36278a6de00b6ea16f19;

    function hash(Contribution memory s) internal pure returns (bytes32) {
        return keccak256(
            bytes.concat(
                abi.encode(CONTRIBUTION_TYPEHASH, s.account, s.datanet, s.rowRoot, s.rowCount, keccak256(bytes(s.licence))),
                abi.encode(s.dataHash, s.dataLength, keccak256(bytes(s.dataLocator)), s.nonce, s.expiry)
            )
        );
    }

    // Recipe(uint64 trainer,bytes32 baseHash,bytes32 tokenizerHash,bytes32 templateHash,bytes32 dataRoot,uint64 dataCount,bytes32 hyperHash,string arithmetic,uint256 nonce,uint64 expiry)
    bytes32 internal constant RECIPE_TYPEHASH =
        0x04d0b233ed118d94b31cd4a6e8e63ff5f64a4edc5c09925a60e55cfd54d207d5;

    function hash(Recipe memory s) internal pure returns (bytes32) {
        return keccak256(
            bytes.concat(
                abi.encode(RECIPE_TYPEHASH, s.trainer, s.baseHash, s.tokenizerHash, s.templateHash, s.dataRoot),
                abi.encode(s.dataCount, s.hyperHash, keccak256(bytes(s.arithmetic)), s.nonce, s.expiry)
            )
        );
    }

    // Training(uint64 trainer,uint64 model,bytes32 recipeHash,bytes32 seed,bytes32 adapterHash,bytes32 checkpointRoot,uint64 checkpointCount,bytes32 stepRoot,uint64 stepCount,bytes32 dampingRoot,bytes32 rowsRoot,bytes32 rowsFineRoot,bytes32 dataHash,uint64 dataLength,string dataLocator,uint256 nonce,uint64 expiry)
    bytes32 internal constant TRAINING_TYPEHASH =
        0xd40319d8d9846db9d9a80c1874943794e789673321da72164b35c2fd73902d82;

    function hash(Training memory s) internal pure returns (bytes32) {
        return keccak256(
            bytes.concat(
                abi.encode(TRAINING_TYPEHASH, s.trainer, s.model, s.recipeHash, s.seed, s.adapterHash),
                abi.encode(s.checkpointRoot, s.checkpointCount, s.stepRoot, s.stepCount, s.dampingRoot, s.rowsRoot),
                abi.encode(s.rowsFineRoot, s.dataHash, s.dataLength, keccak256(bytes(s.dataLocator)), s.nonce, s.expiry)
            )
        );
    }

    // Request(uint64 payer,uint64 server,uint64 model,bytes32 promptCommitment,uint8 privacy,bytes32 samplerHash,uint256 maxFee,uint256 nonce,uint64 expiry)
    bytes32 internal constant REQUEST_TYPEHASH =
        0x85b70d718e2a61900ed1a9b9e8d9e81b151f11fcf879f9c61b6c5a54dc55b14f;

    function hash(Request memory s) internal pure returns (bytes32) {
        return keccak256(
            bytes.concat(
                abi.encode(REQUEST_TYPEHASH, s.payer, s.server, s.model, s.promptCommitment, s.privacy),
                abi.encode(s.samplerHash, s.maxFee, s.nonce, s.expiry)
            )
        );
    }

    // Voucher(uint64 payer,uint64 server,uint256 cumulative,uint64 expiry)
    bytes32 internal constant VOUCHER_TYPEHASH =
        0xac032620ee1b98694cedd74da170e4d21dfeae2aea173fd96ff9d8b84d5eaf75;

    function hash(Voucher memory s) internal pure returns (bytes32) {
        return keccak256(
            bytes.concat(
                abi.encode(VOUCHER_TYPEHASH, s.payer, s.server, s.cumulative, s.expiry)
            )
        );
    }

    // Inference(bytes32 requestHash,uint64 server,uint64 sequence,uint64 model,string act,string arithmetic,bytes32 promptCommitment,bytes32 outputCommitment,uint32 tokensIn,uint32 tokensOut,bytes32 seed,uint8 stopReason,uint256 fee,uint64 recordBy)
    bytes32 internal constant INFERENCE_TYPEHASH =
        0x0f916e46f31fa71bcdbab8da73d9975cf57ed81fa0b30520044db52de7836e42;

    function hash(Inference memory s) internal pure returns (bytes32) {
        return keccak256(
            bytes.concat(
                abi.encode(INFERENCE_TYPEHASH, s.requestHash, s.server, s.sequence, s.model, keccak256(bytes(s.act))),
                abi.encode(keccak256(bytes(s.arithmetic)), s.promptCommitment, s.outputCommitment, s.tokensIn, s.tokensOut, s.seed),
                abi.encode(s.stopReason, s.fee, s.recordBy)
            )
        );
    }

    // Attribution(bytes32 inferenceHash,string method,bytes32 parametersHash,bytes32 scoreRoot,uint64 scoreCount,bytes32 netRoot,int256 noiseFloor,bytes32 shareRoot)
    bytes32 internal constant ATTRIBUTION_TYPEHASH =
        0x6d1ff84e0bd7c0056ac41a53beba69b835c97201b442469396028ed1937c9f9c;

    function hash(Attribution memory s) internal pure returns (bytes32) {
        return keccak256(
            bytes.concat(
                abi.encode(ATTRIBUTION_TYPEHASH, s.inferenceHash, keccak256(bytes(s.method)), s.parametersHash, s.scoreRoot, s.scoreCount),
                abi.encode(s.netRoot, s.noiseFloor, s.shareRoot)
            )
        );
    }

    // Batch(uint64 poster,uint64 number,bytes32 requestRoot,bytes32 inferenceRoot,bytes32 attributionRoot,uint64 callCount,uint64 firstSequence,uint256 feeTotal,bytes32 previousPayoutRoot,bytes32 payoutRoot,uint64 payoutCount,uint256 payoutTotal,bytes32 claimRoot,bytes32 traceCommitment,bytes32 dataHash,uint64 dataLength,string dataLocator,uint256 nonce,uint64 expiry)
    bytes32 internal constant BATCH_TYPEHASH =
        0x5b21c3acfcae4fb6c96085d6d228d5aed86495df91b339c67d0aaa609cd21590;

    function hash(Batch memory s) internal pure returns (bytes32) {
        return keccak256(
            bytes.concat(
                abi.encode(BATCH_TYPEHASH, s.poster, s.number, s.requestRoot, s.inferenceRoot, s.attributionRoot),
                abi.encode(s.callCount, s.firstSequence, s.feeTotal, s.previousPayoutRoot, s.payoutRoot, s.payoutCount),
                abi.encode(s.payoutTotal, s.claimRoot, s.traceCommitment, s.dataHash, s.dataLength, keccak256(bytes(s.dataLocator))),
                abi.encode(s.nonce, s.expiry)
            )
        );
    }

    // Attestation(uint64 validator,uint64 batch,uint8 verdict,bytes32 traceRoot,bytes32 salt)
    bytes32 internal constant ATTESTATION_TYPEHASH =
        0x1c91b0871a4d32825ece7255490e308e446c4067db833c6bdaa709fad5cf595c;

    function hash(Attestation memory s) internal pure returns (bytes32) {
        return keccak256(
            bytes.concat(
                abi.encode(ATTESTATION_TYPEHASH, s.validator, s.batch, s.verdict, s.traceRoot, s.salt)
            )
        );
    }
}

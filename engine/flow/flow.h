/* What the flows keep and hand to each other: one place, since train, ask, attribute, record, validate and trace are written
 * apart. Records are JSON (jansson, compact, keys sorted) in the store, or content-addressed blobs where a second node must
 * be able to fetch them (GET /loam/v1/blob/KECCAK) and check them against a signed hash. Hashes, addresses, salts, signatures
 * are "0x…" strings; amounts decimal strings of wei; ids and counts JSON integers.
 *
 * Names. A model is a base file with at most one adapter: "NAME" (a GGUF in DATA/models, without .gguf) or "BASE+ADAPTER".
 * Its chain id is that of Models. A call is one paid or private question and its answer; its key is the server's sequence
 * number (u64 big-endian) for recorded calls. An answer has a local id (u64, from 1) before it is recorded.
 *
 * MODEL, key = adapter name (UTF-8): written by train (and by validate for a fetched model)
 *   {name, base, base_path, base_hash, tokenizer_hash, template_hash, adapter_hash, adapter_path, run_dir, model: chain id|0,
 *    trainer: account, recipe: {…statement fields}, recipe_hash, training: {…}, training_hash, seed, datanet,
 *    data_root, rows_blob, bundle_blob, rows: count, checkpoints: [{epoch, step, adapter_hash, adapter_blob, weight_log2}],
 *    poa: {method:"fisher", k, rho_log2, dir, rows_root, rows_fine_root, damping_root}, loss, created_ms}
 * rows blob: the training rows in manifest order, one JSON line each:
 *   {"row":"0x hash","account":id,"datanet":id,"contribution":id,"index":position in the contribution,"messages":[…]}
 *   data_root = record/tree over row leaves (row hash ‖ account) in this order; Recipe.dataRoot, dataCount.
 * bundle blob (Training.dataHash, dataLength): what a validator needs, JSON:
 *   {"format":"loam-model-1", base:{name, hash, tokenizer, template}, recipe, recipe_signature, training without data*,
 *    hyper:"canonical text", seed, rows: blob, adapter: blob, checkpoints:[…as above], steps: blob,
 *    poa:{method, k, rho_log2, scales, stores:[{checkpoint, blob, bytes}], damping:[…]}}
 *
 * CALL "answer" records, key = "answer/" + u64 be local id: written by ask
 *   {id, time_ms, model, adapter_hash, key|null, messages:[{role, content}], prompt_ids:[…], output_ids:[…], text, stop,
 *    tokens_in, tokens_out, act:"q8"|"f32", arithmetic:"arith-1"|"fast-bf16", sampler:{temperature, top_k, top_p, min_p, …, max_tokens,
 *    stop:[]}, seed:"0x 32 bytes", prompt_salt, output_salt, trace_root, privacy:"own"|"public"|"committee"|"private",
 *    sequence|null, fee_wei|null}
 *   Prompt commitment = keccak(salt ‖ messages as row-style bytes); output commitment = keccak(salt ‖ u32 be token ids).
 *   Token ids of a paid call are a function of (model, act, messages, sampler, seed) alone.
 *
 * ATTRIBUTION, key = u64 be answer id: written by attribute
 *   {answer, method, parameters_hash, scores:["decimal int128"…] in manifest order, score_root, nets:[{account, net}],
 *    floor, shares:[{account, net, share_ppm}], net_root, share_root, burnt_ppm,
 *    rows:[{rank, row, account, score, share_ppm}] (best 32), methods:{fisher, gradot, tracin, bm25: [{row, rank, score}]},
 *    spans:[{from, to, row, account, tokens}], elapsed_ms,
 *    gradients:["0x hash of the answer's int8 gradients" for each checkpoint, tuned_scores.query]: part of the batch's trace,
 *    which record commits to before validators are drawn}
 *
 * CONTRIBUTION, ROW: contribute.h (contribution_list and contribution_rows give train its rows).
 *
 * BATCH data blob (Batch.dataHash): batchdoc.h. A validator recomputes every root and sum from it.
 */
#ifndef LOAM_FLOW_FLOW_H
#define LOAM_FLOW_FLOW_H

#define FLOW_BUNDLE_FORMAT "loam-model-1"
#define FLOW_BATCH_FORMAT "loam-batch-1"
#define FLOW_JSON_MAX (64u << 20) /* bytes of one record or JSON blob: a batch of some thousand calls */

#endif

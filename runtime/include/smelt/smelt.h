/* smelt: runs compiled small language models (model.smelt). The C interface of libsmelt.so.
 *
 * Conventions
 * - Every call that can fail returns a smelt_status; smelt_last_error() tells what went wrong on this thread.
 * - Structures that cross the interface begin with struct_size: set it to sizeof the structure (the SMELT_*_INIT macros
 *   do). Fields are only ever added at the end, so older callers keep working.
 * - Text is UTF-8. Output buffers: the call stores the needed size in *needed; when it exceeds the capacity the call
 *   returns SMELT_BUFFER_TOO_SMALL and nothing is written. A capacity of 0 asks for the size.
 * - A model may be used by any number of threads; a session, graph or encoder by one at a time, except for smelt_cancel().
 * - No call throws, exits or prints.
 */
#ifndef SMELT_SMELT_H
#define SMELT_SMELT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(SMELT_BUILDING_LIBRARY)
#define SMELT_API __attribute__((visibility("default")))
#else
#define SMELT_API
#endif

/* The version of this interface; smelt_version() gives that of the library that is loaded. */
#define SMELT_API_VERSION 1

typedef enum smelt_status {
  SMELT_OK = 0,
  SMELT_INVALID_ARGUMENT = 1, /* the caller asked for something that cannot be */
  SMELT_NOT_FOUND = 2,        /* a file is not there */
  SMELT_CORRUPT = 3,          /* the artifact was damaged or is not one */
  SMELT_UNSUPPORTED = 4,      /* not possible with this build, CPU or model */
  SMELT_EXHAUSTED = 5,        /* the context or memory is full */
  SMELT_CANCELLED = 6,        /* stopped by smelt_cancel() */
  SMELT_INTERNAL = 7,         /* a defect of smelt */
  SMELT_BUFFER_TOO_SMALL = 8
} smelt_status;

typedef struct smelt_model smelt_model;
typedef struct smelt_session smelt_session;
typedef struct smelt_graph smelt_graph;
typedef struct smelt_encoder smelt_encoder;

/* Release of the library, "0.1.0". */
SMELT_API const char *smelt_version(void);
/* SMELT_API_VERSION that the library was built with. */
SMELT_API int32_t smelt_api_version(void);
/* What went wrong in the last call on this thread that failed; "" if none did. Valid until the next call. */
SMELT_API const char *smelt_last_error(void);
/* The name of a smelt_status, "corrupt"; "unknown" for other numbers. */
SMELT_API const char *smelt_status_name(int32_t status);

/* ---- Models ---- */

typedef struct smelt_model_options {
  size_t struct_size;
  const char *target; /* CPU target to use, as `smelt inspect` names them; NULL: the best that fits */
} smelt_model_options;
#define SMELT_MODEL_OPTIONS_INIT {sizeof(smelt_model_options), NULL}

/* Maps and checks an artifact. `options` may be NULL. */
SMELT_API smelt_status smelt_model_open(const char *path, const smelt_model_options *options,
                                        smelt_model **model);
/* Sessions keep what they need of a model: it may be closed before them. NULL is allowed. */
SMELT_API void smelt_model_close(smelt_model *model);

typedef struct smelt_model_info {
  size_t struct_size;
  uint64_t file_bytes;
  uint32_t vocab_size;
  uint32_t hidden_size;
  uint32_t layers;
  uint32_t max_context;
  uint32_t max_step_tokens; /* most tokens in one smelt_step() */
  uint32_t max_logit_rows;  /* most rows of logits in one smelt_step() */
  int32_t bos_token;        /* -1: none */
  int32_t eos_tokens[8];    /* filled from the front, rest -1 */
  int32_t has_tokenizer;
  int32_t has_chat_template;
  uint64_t cache_bytes_per_position; /* one slot; memory = scratch + logits + slots * context * this */
  uint64_t scratch_bytes;
  const char *target;    /* CPU target in use, "none" without one; lives as long as the model, as do the next two */
  const char *metadata;  /* JSON: provenance, numerics, formats; may be "" */
  size_t metadata_bytes;
  int32_t has_graph; /* 1: it runs whole tensors, see smelt_graph; sessions work if it has token ids and logits */
} smelt_model_info;
#define SMELT_MODEL_INFO_INIT                                                                      \
  {sizeof(smelt_model_info), 0, 0, 0, 0, 0, 0, 0, 0, {0}, 0, 0, 0, 0, NULL, NULL, 0, 0}

SMELT_API smelt_status smelt_model_get_info(const smelt_model *model, smelt_model_info *info);

/* ---- Text ---- */

enum {
  SMELT_TOKENIZE_NO_BOS = 1,     /* do not add what the tokenizer puts around a prompt */
  SMELT_TOKENIZE_NO_SPECIAL = 2  /* special tokens written in the text are plain text */
};

/* Token ids of a text of `bytes` bytes. */
SMELT_API smelt_status smelt_tokenize(const smelt_model *model, const char *text, size_t bytes,
                                      uint32_t flags, int32_t *tokens, size_t capacity,
                                      size_t *needed);
/* Text of tokens, without special ones; not zero-terminated. */
SMELT_API smelt_status smelt_detokenize(const smelt_model *model, const int32_t *tokens,
                                        size_t count, char *text, size_t capacity, size_t *needed);

typedef struct smelt_message {
  const char *role; /* "system", "user", "assistant" */
  const char *content;
} smelt_message;

/* The prompt text of a conversation by the model's chat template, not zero-terminated. Tokenize it with
 * SMELT_TOKENIZE_NO_BOS: templates write the special tokens themselves. */
SMELT_API smelt_status smelt_apply_chat_template(const smelt_model *model,
                                                 const smelt_message *messages, size_t count,
                                                 int32_t add_generation_prompt, char *text,
                                                 size_t capacity, size_t *needed);

/* ---- Sessions ---- */

typedef struct smelt_session_options {
  size_t struct_size;
  uint32_t context; /* positions per slot; 0: all that the model has */
  uint32_t slots;   /* sequences cached side by side; 0: 1 */
  uint32_t threads; /* 0: one per physical core */
  const smelt_model *draft; /* a smaller model with the same vocabulary, whose drafts smelt_generate() tries; NULL: none */
  const char *device;  /* "cpu", "cuda:0", "vulkan:0", "auto", as --device of `smelt run`; NULL: "cpu" */
  uint32_t gpu_layers; /* layers that a GPU runs, the others run on the CPU; 0: all, with "auto" as many as fit */
} smelt_session_options;
#define SMELT_SESSION_OPTIONS_INIT {sizeof(smelt_session_options), 0, 1, 0, NULL, NULL, 0}

/* Reserves all memory that the session will ever use. `options` may be NULL. */
SMELT_API smelt_status smelt_session_create(const smelt_model *model,
                                            const smelt_session_options *options,
                                            smelt_session **session);
SMELT_API void smelt_session_free(smelt_session *session);

typedef struct smelt_token {
  int32_t id;
  int32_t position; /* in its slot, from 0 */
  int32_t slot;
} smelt_token;

/* Runs the model over a ragged batch. The tokens of each slot have consecutive positions that continue the slot or
 * overwrite its end. `logit_rows` are indices into `tokens` whose logits are wanted; the k-th of them is row k of
 * smelt_logits(). A step that fails changes nothing. */
SMELT_API smelt_status smelt_step(smelt_session *session, const smelt_token *tokens, size_t count,
                                  const int32_t *logit_rows, size_t row_count);
/* The same with a token type (segment) for each token, where the model has some. */
SMELT_API smelt_status smelt_step_types(smelt_session *session, const smelt_token *tokens,
                                        const int32_t *types, size_t count,
                                        const int32_t *logit_rows, size_t row_count);
/* vocab_size logits of a row of the last step; NULL if it was not asked for, and on a GPU after a greedy
 * smelt_generate(). Overwritten by the next step. */
SMELT_API const float *smelt_logits(const smelt_session *session, size_t row);
/* Appends tokens to a slot, any number, in chunks; the logits of the last one are row 0. */
SMELT_API smelt_status smelt_append(smelt_session *session, int32_t slot, const int32_t *tokens,
                                    size_t count);
/* Positions that the slot holds; -1 for a slot that does not exist. */
SMELT_API int64_t smelt_slot_length(const smelt_session *session, int32_t slot);
/* Forgets the positions of a slot from `length` on. */
SMELT_API smelt_status smelt_truncate(smelt_session *session, int32_t slot, uint32_t length);

/* Writes all that a slot holds into a file, so that a long prompt need not be computed again: smelt_slot_load() takes it
 * with the same artifact, in any process and on any processor. Written beside `path` and renamed. SMELT_UNSUPPORTED for
 * models that run as graphs. */
SMELT_API smelt_status smelt_slot_save(const smelt_session *session, int32_t slot, const char *path);
/* The slot then holds what was saved, and smelt_generate() reuses what its prompt shares with it. SMELT_NOT_FOUND: no
 * such file; SMELT_CORRUPT: damaged; SMELT_INVALID_ARGUMENT: from another artifact. */
SMELT_API smelt_status smelt_slot_load(smelt_session *session, int32_t slot, const char *path);

/* ---- Generation ---- */

/* A piece of the answer: whole UTF-8 characters, not zero-terminated. Return 0 to go on, anything else to stop. */
typedef int32_t (*smelt_text_callback)(const char *text, size_t bytes, void *user);

typedef struct smelt_generate_options {
  size_t struct_size;
  uint32_t max_tokens; /* 0: until the context is full */
  float temperature;   /* 0: greedy */
  uint32_t top_k;      /* 0: all */
  float top_p;         /* 1: all */
  float min_p;         /* 0: all */
  float repetition_penalty; /* 1: none */
  uint64_t seed;
  const char *const *stop; /* stop strings, zero-terminated */
  size_t stop_count;
  int32_t ignore_end; /* not 0: go on after end tokens */
  smelt_text_callback on_text;
  void *user;
  int32_t no_speculation; /* not 0: token by token; 0: drafts (what followed the last tokens earlier in the text, or the
                             draft model's) are tried where that is faster; the answer is the same */
} smelt_generate_options;
#define SMELT_GENERATE_OPTIONS_INIT                                                                \
  {sizeof(smelt_generate_options), 0, 0.0f, 0, 1.0f, 0.0f, 1.0f, 0, NULL, 0, 0, NULL, NULL, 0}

/* The model's own defaults for temperature, top_k, top_p and repetition_penalty; sets nothing else. */
SMELT_API smelt_status smelt_generate_defaults(const smelt_model *model,
                                               smelt_generate_options *options);

typedef enum smelt_finish {
  SMELT_FINISH_END_TOKEN = 0,
  SMELT_FINISH_STOP_STRING = 1,
  SMELT_FINISH_MAX_TOKENS = 2,
  SMELT_FINISH_CONTEXT_FULL = 3,
  SMELT_FINISH_CANCELLED = 4,
  SMELT_FINISH_CALLBACK = 5
} smelt_finish;

typedef struct smelt_generate_result {
  size_t struct_size;
  smelt_finish finish;
  uint32_t prompt_tokens;
  uint32_t reused_tokens; /* of the prompt, found in the cache of this slot or another */
  uint32_t answer_tokens; /* the end token included */
  double prompt_seconds;
  double first_token_seconds;
  double decode_seconds;
  uint32_t drafted_tokens;  /* tried by speculation */
  uint32_t accepted_tokens; /* of these, part of the answer */
} smelt_generate_result;
#define SMELT_GENERATE_RESULT_INIT                                                                 \
  {sizeof(smelt_generate_result), SMELT_FINISH_END_TOKEN, 0, 0, 0, 0, 0, 0, 0, 0}

/* Puts the prompt into the slot, reusing what any slot already holds of it, and generates after it. `options` and
 * `result` may be NULL. Being cancelled is a result, not a failure. */
SMELT_API smelt_status smelt_generate(smelt_session *session, int32_t slot, const int32_t *prompt,
                                      size_t count, const smelt_generate_options *options,
                                      smelt_generate_result *result);
/* The ids that the last smelt_generate() of this session sampled, the end token included. */
SMELT_API smelt_status smelt_generated_tokens(const smelt_session *session, int32_t *tokens,
                                              size_t capacity, size_t *needed);
/* Ends a running smelt_generate() or smelt_append() of this session soon; without one it does nothing. May be called
 * from any thread and from signal handlers. */
SMELT_API void smelt_cancel(smelt_session *session);

/* ---- Graphs: named tensors in, tensors out ---- */

typedef enum smelt_type {
  SMELT_F32 = 0,
  SMELT_F64 = 1,
  SMELT_I64 = 2,
  SMELT_I32 = 3,
  SMELT_I8 = 4,
  SMELT_U8 = 5,
  SMELT_BOOL = 6 /* a byte, 0 or 1 */
} smelt_type;

/* What an input or output is, as far as the compiler knows. */
typedef enum smelt_role {
  SMELT_ROLE_OTHER = 0,
  SMELT_ROLE_IDS = 1,           /* token ids [batch, sequence] */
  SMELT_ROLE_MASK = 2,          /* [batch, past + sequence], 1 for tokens */
  SMELT_ROLE_POSITIONS = 3,     /* [batch, sequence] */
  SMELT_ROLE_TOKEN_TYPES = 4,   /* [batch, sequence] */
  SMELT_ROLE_STATE = 5,         /* the output is fed to the input `partner` of the next run */
  SMELT_ROLE_LOGITS = 6,        /* [batch, sequence or 1, vocabulary] */
  SMELT_ROLE_HIDDEN_STATE = 7,  /* [batch, sequence, width] */
  SMELT_ROLE_EMBEDDING = 8,     /* [batch, width] */
  SMELT_ROLE_CLASSES = 9,       /* [batch, labels] */
  SMELT_ROLE_TOKEN_CLASSES = 10 /* [batch, sequence, labels] */
} smelt_role;

#define SMELT_MAX_RANK 8

typedef struct smelt_graph_options {
  size_t struct_size;
  uint32_t threads;      /* 0: one per physical core */
  uint64_t memory_limit; /* bytes of tensors at once; 0: the memory of the machine */
} smelt_graph_options;
#define SMELT_GRAPH_OPTIONS_INIT {sizeof(smelt_graph_options), 0, 0}

/* Prepares the graph of a model; SMELT_UNSUPPORTED if it has none. `options` may be NULL. */
SMELT_API smelt_status smelt_graph_create(const smelt_model *model,
                                          const smelt_graph_options *options, smelt_graph **graph);
SMELT_API void smelt_graph_free(smelt_graph *graph);

/* An input or output of a graph. */
typedef struct smelt_port {
  size_t struct_size;
  const char *name; /* lives as long as the graph */
  smelt_type type;
  uint32_t rank;
  int64_t dims[SMELT_MAX_RANK]; /* -1: any length */
  smelt_role role;
  int32_t partner;   /* states: index of the matching output or input; else -1 */
  int32_t grow_axis; /* state inputs: the axis of length 0 before the first run; -1: zeros of a fixed shape */
} smelt_port;
#define SMELT_PORT_INIT {sizeof(smelt_port), NULL, SMELT_F32, 0, {0}, SMELT_ROLE_OTHER, -1, -1}

SMELT_API size_t smelt_graph_input_count(const smelt_graph *graph);
SMELT_API size_t smelt_graph_output_count(const smelt_graph *graph);
SMELT_API smelt_status smelt_graph_input(const smelt_graph *graph, size_t index, smelt_port *port);
SMELT_API smelt_status smelt_graph_output(const smelt_graph *graph, size_t index, smelt_port *port);

/* A contiguous row-major tensor. */
typedef struct smelt_tensor {
  const char *name;
  smelt_type type;
  uint32_t rank;
  int64_t dims[SMELT_MAX_RANK];
  const void *data; /* aligned as its type wants; may be NULL if a dimension is 0 */
} smelt_tensor;

/* Runs the graph over all its inputs, in any order; their data may be that of smelt_graph_result() of the run before. A
 * run that fails changes nothing. */
SMELT_API smelt_status smelt_graph_run(smelt_graph *graph, const smelt_tensor *inputs, size_t count);
/* An output of the last run; its data lives until the end of the next one that succeeds. SMELT_NOT_FOUND before the
 * first. */
SMELT_API smelt_status smelt_graph_result(const smelt_graph *graph, size_t index,
                                          smelt_tensor *tensor);

/* ---- Encoders: embeddings and classes of texts ---- */

typedef enum smelt_pooling {
  SMELT_POOLING_DEFAULT = 0, /* as the model says */
  SMELT_POOLING_MEAN = 1,
  SMELT_POOLING_FIRST = 2, /* the first token, often [CLS] */
  SMELT_POOLING_LAST = 3
} smelt_pooling;

typedef struct smelt_encoder_options {
  size_t struct_size;
  uint32_t threads;      /* 0: one per physical core */
  uint32_t max_tokens;   /* longer texts are cut; 0: what the model reads */
  smelt_pooling pooling; /* of models that give a row for every token */
  int32_t normalize;     /* 1: embeddings of length 1; 0: as they come; -1: as the model says */
} smelt_encoder_options;
#define SMELT_ENCODER_OPTIONS_INIT \
  {sizeof(smelt_encoder_options), 0, 0, SMELT_POOLING_DEFAULT, -1}

/* Prepares a model for texts; SMELT_UNSUPPORTED if it gives neither embeddings nor classes. `options` may be NULL. */
SMELT_API smelt_status smelt_encoder_create(const smelt_model *model,
                                            const smelt_encoder_options *options,
                                            smelt_encoder **encoder);
SMELT_API void smelt_encoder_free(smelt_encoder *encoder);
/* What the model gives: SMELT_ROLE_HIDDEN_STATE or _EMBEDDING for smelt_embed(), _CLASSES for smelt_classify(),
 * _TOKEN_CLASSES for smelt_classify_tokens(). */
SMELT_API smelt_role smelt_encoder_role(const smelt_encoder *encoder);
/* Floats of an embedding, or classes; 0: only a run tells. */
SMELT_API size_t smelt_encoder_width(const smelt_encoder *encoder);
/* The name of a class, "LABEL_3" where the model names none; not zero-terminated. */
SMELT_API smelt_status smelt_encoder_label(const smelt_encoder *encoder, size_t index, char *text,
                                           size_t capacity, size_t *needed);

typedef struct smelt_text {
  const char *text;
  size_t bytes;
  const char *second; /* read together with the first; NULL: none */
  size_t second_bytes;
} smelt_text;

/* Embeddings [count, width] of texts. */
SMELT_API smelt_status smelt_embed(smelt_encoder *encoder, const smelt_text *texts, size_t count,
                                   float *embeddings, size_t capacity, size_t *needed);
/* Probabilities [count, classes] of texts. */
SMELT_API smelt_status smelt_classify(smelt_encoder *encoder, const smelt_text *texts, size_t count,
                                      float *probabilities, size_t capacity, size_t *needed);
/* The tokens of a text without special ones, and their probabilities [tokens, classes], which have room for
 * capacity * smelt_encoder_width() floats. */
SMELT_API smelt_status smelt_classify_tokens(smelt_encoder *encoder, const smelt_text *text,
                                             int32_t *tokens, float *probabilities, size_t capacity,
                                             size_t *needed);

#ifdef __cplusplus
}
#endif
#endif

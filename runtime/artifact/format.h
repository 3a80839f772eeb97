// The contract between compiler and runtime: the bytes of `model.smelt` and the calling convention
// of its kernels.
//
// Stand-alone: needs nothing but this file. Everything is little-endian; offsets count from the
// start of the file unless said otherwise; every structure is a multiple of 8 bytes without hidden
// padding.
//
// Compatibility: a reader refuses another `majorVersion` and accepts any `minorVersion`: a minor
// change only adds section kinds (readers skip kinds they do not know) or gives meaning to reserved
// bytes that older writers set to zero.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace smelt::format {

inline constexpr char magic[8] = {'S', 'M', 'E', 'L', 'T', '\r', '\n', '\0'};
inline constexpr uint16_t majorVersion = 2; ///< 2: a4g32 has bfloat16 row factors; formats from a4g16 on
/// 1: Operand::ready; 2: GpuCode; 3: GpuCodeKind::Ptx, GpuArgmax, LayerStarts; 4: ReadyForOne, ReadyForMany; 5: GpuCandidates,
/// ProgramKind::Divisible; 6: GpuProgramKernel
inline constexpr uint16_t minorVersion = 6;
/// Tokens of a step on a CPU that a long text is best divided into: rows beyond these leave the second-level cache, and no
/// weight is decoded less often.
inline constexpr uint32_t cpuStepTokens = 128;
/// Sections start on multiples of this, so that they can be mapped and used in place.
inline constexpr uint64_t sectionAlignment = 4096;

/// At offset 0. Bytes between sections, and reserved bytes, are zero; a reader of the same minor
/// version checks it.
struct FileHeader {
  char magic[8];
  uint16_t majorVersion;
  uint16_t minorVersion;
  uint32_t sectionCount;
  uint64_t fileBytes;      ///< whole size; a shorter file is truncated
  uint64_t tableOffset;    ///< SectionEntry[sectionCount]
  uint64_t tableChecksum;  ///< XXH64 (seed 0) of the table
  uint64_t headerChecksum; ///< XXH64 (seed 0) of all bytes of this header before this field
  uint8_t reserved[16];
};
static_assert(sizeof(FileHeader) == 64);

enum class SectionKind : uint32_t {
  Config = 1,  ///< ModelConfig
  Program = 2, ///< ProgramHeader and what follows it; `target`: ProgramKind
  Weights = 3, ///< packed weights, tables; operands point into it
  Code =
      4, ///< one ELF shared object; `target` names the CPU it needs (runtime/devices/targets.def)
  Tokenizer = 5, ///< runtime/tokenizer/blob.h
  Template = 6,  ///< chat template, UTF-8 Jinja source
  Metadata = 7,  ///< UTF-8 JSON, see below; for people, `inspect` and `bench`, never needed to run
  TensorProgram = 8, ///< TensorProgramHeader and what follows it; such an artifact runs whole tensors, not tokens
  GpuCode = 9, ///< GpuProgramKernel[kernels of the divisible program] and the modules they name; `target`: GpuCodeKind
  GpuArgmax = 10, ///< GpuNamedKernel[2] and the modules they name; `target`: GpuCodeKind
  GpuCandidates = 12, ///< GpuNamedKernel[2] and the modules they name; `target`: GpuCodeKind
  LayerStarts = 11, ///< LayerStart[ProgramHeader::layerCount], of the divisible program; to divide the layers between devices
};

/// Programs of the same model, over the same weights, caches and scratch, with the same results.
enum class ProgramKind : uint32_t {
  Whole = 0,     ///< of the CPU alone
  Divisible = 1, ///< one kernel a step, as GPUs and parts of a CPU run it; without it, the whole program is divisible
};

// Metadata is one JSON object; every key is optional, unknown keys are shown as they are:
//   producer: string                       "smelt 0.1.0"
//   source: {file, bytes, hash, ...}       what was compiled
//   options: {name: value, ...}            how it was compiled
//   statistics: {hash, samples, tokens}    what it was calibrated on
//   folds: {algorithm: count, ...}         linears whose inputs were folded (calibration/folds.def)
//   licence: string
//   numerics: {name: value, ...}           declared precision: cache, accumulation, each named
//   deviation linears: [{name, rows, cols, weights, activations, bytes, role}]
//       weights/activations: names of formats.def/activations.def; bytes: packed; role: "decoder",
//       "head" or "embedding" (an embedding is listed only where it has bytes of its own; one that
//       is only gathered from has role "embedding")

struct SectionEntry {
  SectionKind kind;
  uint32_t target; ///< Code: row of targets.def; GpuCode, GpuArgmax, GpuCandidates: GpuCodeKind; else 0
  uint64_t offset; ///< multiple of sectionAlignment
  uint64_t bytes;
  uint64_t checksum; ///< XXH64 (seed 0) of the section's bytes
  uint8_t reserved[32];
};
static_assert(sizeof(SectionEntry) == 64);

/// What an input or output of a graph is, so that text can be run through it; Other: only by name.
enum class PortRole : uint32_t {
  Other = 0,
  Ids = 1,           ///< int64 [batch, sequence]
  Mask = 2,          ///< int64 [batch, past + sequence], 1 for tokens
  Positions = 3,     ///< int64 [batch, sequence]
  TokenTypes = 4,    ///< int64 [batch, sequence], zeros
  State = 5,         ///< carried from step to step: input `partner` of the next step is this output
  Logits = 6,        ///< float [batch, sequence or 1, vocabulary]
  HiddenState = 7,   ///< float [batch, sequence, width]
  Embedding = 8,     ///< float [batch, width]
  Classes = 9,       ///< float [batch, labels]
  TokenClasses = 10, ///< float [batch, sequence, labels]
};

/// How the rows of a text become one.
enum class Pooling : uint32_t { None = 0, Mean = 1, First = 2, Last = 3 };

/// What the model is: sizes, cache, generation defaults.
struct ModelConfig {
  uint32_t vocabSize; ///< floats of a row of logits (or of whatever `output` says)
  uint32_t hiddenSize;
  uint32_t layers;                ///< attention layers, each with one key and one value cache
  uint32_t maxContext;            ///< positions that the rotary tables cover
  uint32_t maxTokens;             ///< most tokens in one step; scratch is sized for it
  uint32_t maxLogitRows;          ///< most rows of logits in one step
  uint32_t cacheFormat;           ///< row of runtime/formats/caches.def
  uint32_t positionBlock;         ///< cache capacity is a multiple of this (positions)
  uint64_t keyBytesPerPosition;   ///< all layers together, one slot
  uint64_t valueBytesPerPosition; ///< all layers together, one slot
  uint64_t scratchBytes; ///< peak bytes = scratch + slots * roundUp(context, positionBlock) * (key
                         ///< + value bytes) + logits
  int32_t bosToken;      ///< -1: none
  int32_t padToken;      ///< -1: none
  int32_t eosTokens[8];  ///< filled from the front, rest -1
  uint32_t addBos;       ///< 1: prompts start with bosToken
  float temperature;     ///< generation defaults of the model; 0: greedy
  float topP;
  float repetitionPenalty;
  uint32_t topK; ///< 0: all
  uint32_t inputVocab;    ///< token ids are below it; 0: below vocabSize
  uint32_t tokenTypes;    ///< token types are below it; 0: there is only type 0
  uint32_t bidirectional; ///< 1: all tokens of a slot come in one step, from position 0
  PortRole output; ///< what a row of a step is: Logits (or Other), HiddenState; TokenClasses: classes of
                   ///< the token; Classes, Embedding: of the text, in the row of its first token
  Pooling pooling; ///< how HiddenState rows become the embedding of a text
  uint32_t normalize; ///< 1: embeddings are scaled to length 1
  uint32_t reserved[3];
};
static_assert(sizeof(ModelConfig) == 152);

/// Program section: ProgramHeader, KernelEntry[kernelCount], Instruction[instructionCount],
/// CacheLayer[layers], names.
struct ProgramHeader {
  uint32_t kernelCount;
  uint32_t instructionCount;
  uint32_t layerCount; ///< equals ModelConfig::layers
  uint32_t nameBytes;  ///< zero-terminated kernel symbol names, back to back
};
static_assert(sizeof(ProgramHeader) == 16);

struct KernelEntry {
  uint32_t nameOffset; ///< into the names
  uint32_t reserved;
};

/// The cache of one attention layer: keys and values [slot][kv head], each as
/// runtime/formats/caches.h says.
struct CacheLayer {
  uint32_t kvHeads;
  uint32_t headDim;
  uint64_t
      keyOffsetPerPosition; ///< byte offset of the layer in the key cache = this * slots * capacity
  uint64_t valueOffsetPerPosition; ///< the same for the value cache
};
static_assert(sizeof(CacheLayer) == 24);

/// Where the instructions of a layer begin (they go on to where those of the next one do), and what they take over from
/// those before: float rows of the token domain in scratch, one behind the other.
struct LayerStart {
  uint32_t instruction;
  uint32_t rowBytes; ///< 0: the program cannot be divided here, and the rest means nothing
  uint64_t scratch;  ///< byte offset of the first row
};
static_assert(sizeof(LayerStart) == 16);

enum class OperandKind : uint32_t {
  None = 0,       ///< null
  Weights = 1,    ///< value: byte offset in the weights section
  Scratch = 2,    ///< value: byte offset in the session's scratch
  KeyCache = 3,   ///< value: layer
  ValueCache = 4, ///< value: layer
  Tokens = 5,     ///< int32[tokens]: token ids
  Positions = 6, ///< int32[4][maxTokens]: position of each token in its slot, each token's cache slot, the last position of
                 ///< its slot in this step, its token type
  LogitRows = 8,  ///< int32[logitRows]: which tokens' logits are wanted
  Logits = 9,     ///< float[logitRows][vocabSize]
  RowsIn = 10,    ///< tensor programs: rows of the input of a Rows instruction
  RowsOut = 11,   ///< tensor programs: rows of its output
};

/// Whether an instruction may use an operand at once, for no other since the last barrier touches what it needs, or
/// waits for all threads: in any step, or by how many rows the instruction's domain has.
enum class Readiness : uint32_t { Waits = 0, Ready = 1, ReadyForOne = 2, ReadyForMany = 3 };

struct Operand {
  OperandKind kind;
  Readiness ready;
  uint64_t value;
};
static_assert(sizeof(Operand) == 16);

inline constexpr uint32_t operandCount = 8;
inline constexpr uint32_t noKernel = 0xffffffffu;

/// How many rows an instruction works on, which decides between its two kernels.
enum class Domain : uint32_t {
  Tokens = 0,    ///< StepInfo::tokens rows
  LogitRows = 1, ///< StepInfo::logitRows rows; skipped when there are none
};

/// What an instruction does, for profiles and `inspect` only.
enum class OpLabel : uint32_t {
  Embedding,
  Norm,
  Quantize,
  Linear,
  Rope,
  Attention,
  Elementwise,
  Head
};

/// One kernel call by every thread. A thread waits for all others before it, unless all of its operands are ready (for
/// so many rows); a barrier of an instruction that does not run, for want of rows, is due before the next one that does.
struct Instruction {
  uint32_t kernelOne;  ///< kernel when the domain has exactly one row; noKernel: nothing to do then
  uint32_t kernelMany; ///< kernel for two rows and more; noKernel: nothing to do then
  Domain domain;
  OpLabel label;
  Operand operands[operandCount];
};
static_assert(sizeof(Instruction) == 144);

/// Scalars that every kernel can read, as an array of int64 (index = the enumerator).
enum StepField : uint32_t {
  FieldThread = 0, ///< this thread, 0 .. threads-1
  FieldThreads = 1,
  FieldTokens = 2,    ///< rows of the token domain
  FieldLogitRows = 3, ///< rows of the logit domain
  FieldCapacity = 4,  ///< cache positions per slot, multiple of positionBlock
  FieldSlots = 5,
  FieldCount = 8,
};

// What a kernel may rely on beside its own rows:
// - tokens, positions and the rest of them, and logitRows: entries from the count up to maxTokens (logitRows: maxLogitRows) are 0
// - scratch and cache are zero when the session starts and are never cleared again: what a kernel reads beyond its
//   rows (tile padding, positions that nothing was written to) is finite, because only kernels wrote there
// - logits: 256 bytes beyond the last row can be written

/// Every kernel: info is int64[FieldCount]; p0..p7 are the instruction's operands, 64-byte aligned
/// where they are weights, scratch, cache or logits. A kernel works on its thread's share and does
/// not allocate, block or call out.
using KernelFunction = void (*)(const int64_t *info, void *p0, void *p1, void *p2, void *p3,
                                void *p4, void *p5, void *p6, void *p7);

//===--- GPU code ---------------------------------------------------------------------------------===//
//
// The same program, weights and layouts, with kernels for a GPU. Arguments of a kernel, arrays of int32 each: the
// fields of the step (StepField), where operands 0..7 start within their arrays (in words), then the operands. Of one
// slice of the grid, each workgroup of `threads` x 1 x 1 does a part.

enum class GpuCodeKind : uint32_t {
  SpirV = 1, ///< one module a kernel, entry point named as the kernel, arguments bound to set 0, bindings 0..9; Vulkan 1.1
  Ptx = 2,   ///< text of a module a kernel, entry point named as the kernel, parameters 0..9 its arguments (addresses; operands start there, so that argument 1 is not read), a zero byte at the end; compute capability 8.0
};

struct GpuKernel {
  uint32_t threads;       ///< of a workgroup
  uint32_t groups;        ///< first dimension of the grid
  uint32_t rowsPerGroup;  ///< second dimension: the rows of the domain, so many a workgroup
  uint32_t overPositions; ///< 1: third dimension: ModelConfig::positionBlock positions a workgroup, from position 0; 0: 1
  uint64_t offset;        ///< of the module in the section
  uint64_t bytes;
};
static_assert(sizeof(GpuKernel) == 32);

/// A kernel of the program. From gpuWideRows rows of its domain on `wide` takes its place, where it has bytes; its entry
/// point is named as the kernel with gpuWideSuffix behind.
inline constexpr uint32_t gpuWideRows = 64;
inline constexpr std::string_view gpuWideSuffix = "_wide";
struct GpuProgramKernel {
  GpuKernel usual;
  GpuKernel wide; ///< all zero: there is none
};
static_assert(sizeof(GpuProgramKernel) == 64);

/// GpuArgmax: two kernels that are no part of the program, for greedy decoding. They run one after the other over the
/// logit domain: logits (operand 0) -> parts (operand 1), int32[logitRows][2][groups of the first kernel]; parts
/// (operand 0) -> int32[logitRows] (operand 1), the index of the largest logit, the first among equals; -1: there is none.
/// GpuCandidates: two more, for samplers that keep topKAtMost tokens or fewer: logits (operand 0) -> maxima (operand 1),
/// int32[logitRows][64 x groups of the first kernel]; logits (operand 0), maxima (operand 1) -> int32[logitRows][candidateWords]
/// (operand 2, whose counts the first one clears): a count, candidatesAtMost ids, as many logits (float): all that are
/// topKAtMost-th largest or larger, and maybe some below, in no order; where the count is larger, not all.
inline constexpr uint32_t logitKernels = 2, topKAtMost = 64, candidatesAtMost = 256, candidateWords = 1 + 2 * candidatesAtMost;
struct GpuNamedKernel {
  char name[96]; ///< of the entry point; zero-terminated
  GpuKernel kernel;
};
static_assert(sizeof(GpuNamedKernel) == 128);

//===--- Tensor programs ------------------------------------------------------------------------===//
//
// A graph that is not raised to a token program runs as it stands: whole tensors of any shape, one instruction a
// node. Such an artifact holds a TensorProgram section beside the Program section, whose instructions are then only
// called by Rows instructions. Every tensor is contiguous, row-major, of the rank that the program states; its
// dimensions are known when it is made. Half-precision graphs compute in float.

inline constexpr uint32_t maxRank = 8;
inline constexpr uint32_t tensorOperandCount = 7;
inline constexpr uint32_t noTensor = 0xffffffffu;

enum class ElementType : uint32_t { F32 = 0, F64 = 1, I64 = 2, I32 = 3, I8 = 4, U8 = 5, Bool = 6 /* a byte, 0 or 1 */ };

/// TensorProgram section: TensorProgramHeader, TensorKernelEntry[kernelCount], TensorEntry[tensorCount],
/// TensorInstruction[instructionCount], TensorPort[inputCount], TensorPort[outputCount], names.
struct TensorProgramHeader {
  uint32_t kernelCount;
  uint32_t tensorCount;
  uint32_t instructionCount;
  uint32_t inputCount;
  uint32_t outputCount;
  uint32_t nameBytes; ///< zero-terminated names, back to back
};
static_assert(sizeof(TensorProgramHeader) == 24);

struct TensorKernelEntry {
  uint32_t nameOffset;
  uint32_t reserved;
};

/// A value of the graph. Constants lie in the weights section, 64-byte aligned.
struct TensorEntry {
  ElementType type;
  uint32_t rank;
  uint32_t isConstant;
  uint32_t reserved;
  uint64_t offset; ///< constants: byte offset in the weights section
  int64_t dims[maxRank]; ///< constants: the shape; others: -1 where not known at compile time
};
static_assert(sizeof(TensorEntry) == 88);

enum class TensorAction : uint32_t {
  Kernel = 0, ///< shape kernel on one thread, then memory for the outputs, then the compute kernel on all threads
  Alias = 1,  ///< shape kernel; the output shares the memory of the first input (operands: out, in, ...)
  Rows = 2,   ///< instructions [first, first + count) of the Program section over the rows of a matrix, in chunks of at
              ///< most ModelConfig::maxTokens rows; operands: out, in, both rank 2 float [rows, width], or in int32 [rows]
  Jump = 3,   ///< to instruction `target`, which lies further on
  JumpIfFalse = 4, ///< the same if operand 0, a Bool of one element, is false
  Take = 5,   ///< operand 0 becomes operand 1 (same type and rank): results of the branches of an If
};

/// Kernel operands: outputs first, then inputs; omitted inputs are noTensor (null pointer, rank 0).
struct TensorInstruction {
  TensorAction action;
  uint32_t label; ///< OpLabel of the profile
  uint32_t shapeKernel;
  uint32_t computeKernel;
  uint32_t outputs; ///< how many of the operands are outputs, 0 .. 2
  uint32_t operandCount;
  uint32_t operands[tensorOperandCount]; ///< tensors
  uint32_t nodeName; ///< offset in the names: the ONNX node it came from, for messages and profiles
  uint32_t first, count; ///< Rows
  uint32_t target;       ///< jumps
  uint32_t release[tensorOperandCount]; ///< tensors that nothing reads after this instruction; noTensor: none
};
static_assert(sizeof(TensorInstruction) == 96);

struct TensorPort {
  uint32_t tensor;
  uint32_t nameOffset;
  PortRole role;
  uint32_t partner; ///< State: index of the matching output (inputs) or input (outputs); else noTensor
  int32_t growAxis; ///< State inputs: the axis that grows with the positions, of length 0 at the start; -1: a fixed
                    ///< shape that starts as zeros
  uint32_t reserved;
};
static_assert(sizeof(TensorPort) == 24);

// Tensor kernels have the signature of KernelFunction: info as above (FieldThread and FieldThreads are all they read);
// p0: the frame, int64[1 + 7 * 8]: frame[0] is 0 and set to a TensorFault by a kernel that finds one (its thread then
// stops, its outputs hold anything); frame[1 + 8 * i + a] is dimension a of operand i. p1..p7: the data of the operands.
// A shape kernel writes the dimensions of its outputs into the frame and nothing else; it may read the data of its inputs.
// A compute kernel writes all elements of its outputs, dealt to the threads. Kernels never touch memory beyond the
// elements of their operands, whatever indices the data holds.
enum TensorFault : int64_t {
  FaultNone = 0,
  FaultShape = 1, ///< operand shapes do not fit together
  FaultIndex = 2, ///< an index is out of range
};

} // namespace smelt::format

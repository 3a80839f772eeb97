// Layout of the tokenizer section of model.smelt: written by compiler/tokenizer, read by the
// runtime.
#pragma once

#include <cstdint>

/// All numbers are little-endian and unaligned. The blob is
///
///   u32 magic, u32 version, u32 number of sections, then per section {u32 kind, u32 offset, u32
///   bytes} with offsets counted from the start of the blob, then the sections.
///
/// Rules: a reader refuses another version; it skips kinds that it does not know, so a section that
/// an old reader may ignore needs no new version. "string" is u16 bytes + UTF-8. "text" is u32
/// bytes + UTF-8. An index that says "none" is blobNone.
///
/// | section       | content |
/// |---------------|-----------------------------------------------------------------------------------------------|
/// | Vocabulary    | u32 count, count x u16 length, the texts end to end; length 0: no token has
/// this id            | | Model         | u8 ModelFlag bits, u32 unknown id or none, string prefix
/// of continuing pieces, string suffix of words | | Merges        | u8 width (2, 3 or 4), u32
/// count, count x {left, right, result} of width bytes, best rank first | | Added         | u32 set
/// of white space or none, u32 set of word characters or none, u32 count, count x {u32 id, u8
/// AddedFlag bits} | | Sets          | u32 count, each: u32 ranges, ranges x {u32 first, u32 last},
/// ascending, apart                   | | Patterns      | u32 count, each: u32 instructions, each
/// {u8 PatternOp, u8 flag, u32 a, u32 b, u32 c}            | | Tables        | u32 count, each: u8
/// TableKind and its rows (see TableKind)                                     | | Normalizer    |
/// u32 count, each: u8 NormalizerStep and operands                                                |
/// | PreTokenizer  | u32 count, each: u8 PreTokenizerStep and operands | | PostProcessor | u32
/// count + ids put before, u32 count + ids put after the tokens of the text                   | |
/// Decoder       | u32 count, each: u8 DecoderStep and operands | | WordPiece     | u32 unknown id,
/// u32 characters of a word at most, string prefix of continuing pieces | | Unigram       | u8
/// ModelFlag bits, u32 unknown id or none, u32 count, count x f64 score by id | | Pair          |
/// u32 count, each part of a pair of texts: u8 PairPart, u8 token type, u32 id of Special |
///
/// The model is WordPiece or Unigram where that section exists, else byte pair encoding by Model
/// and Merges. Without Pair, a tokenizer does not say how two texts go together.
namespace smelt {

inline constexpr uint32_t tokenizerBlobMagic = 0x4B544D53; // "SMTK"
inline constexpr uint32_t tokenizerBlobVersion = 1;
inline constexpr uint32_t blobNone = 0xFFFFFFFF;

enum class BlobSection : uint32_t {
  Vocabulary = 1,
  Model = 2,
  Merges = 3,
  Added = 4,
  Sets = 5,
  Patterns = 6,
  Tables = 7,
  Normalizer = 8,
  PreTokenizer = 9,
  PostProcessor = 10,
  Decoder = 11,
  WordPiece = 12,
  Unigram = 13,
  Pair = 14,
};

enum ModelFlag : uint8_t {
  modelByteFallback = 1, ///< an unknown character becomes its bytes' tokens "<0x..>"
  modelFuseUnknown = 2,  ///< neighbouring unknown characters become one unknown token
  modelIgnoreMerges = 4, ///< a word that is itself a token is taken whole
};

/// What stands in the encoding of two texts.
enum class PairPart : uint8_t { Special = 0, First = 1, Second = 2 };

enum AddedFlag : uint8_t {
  addedSpecial = 1,     ///< control token: skipped on request when decoding
  addedSingleWord = 2,  ///< found only between non-word characters
  addedLeftStrip = 4,   ///< takes the white space before it
  addedRightStrip = 8,  ///< takes the white space after it
  addedNormalized = 16, ///< searched in the normalized text
  addedInModel = 32,    ///< also a token of the model's own vocabulary
};

/// Instructions of a compiled regular expression, run by a backtracking matcher that prefers like
/// Perl.
enum class PatternOp : uint8_t {
  Match = 0,     ///< the program, or the look-around or atomic group around it, has matched
  Set = 1,       ///< one character of set a
  Loop = 2,      ///< b to c (blobNone: unlimited) characters of set a; flag: LoopKind
  Fork = 3,      ///< try a; if the rest fails, try b
  Jump = 4,      ///< go to a
  Ahead = 5,     ///< the program after this one matches here (flag 0) or not (flag 1); then go to a
  Behind = 6,    ///< the character before is in set a (flag 0) or there is none such (flag 1)
  Atomic = 7,    ///< match the program after this one, forget its alternatives, go to a
  TextStart = 8, ///< at the start of the text
  TextEnd = 9,   ///< at the end of the text
  LineStart = 10, ///< at the start of the text or after a line feed that does not end it
  LineEnd = 11,   ///< at the end of the text or before a line feed
  Boundary = 12,  ///< between a character of set a and one outside it (flag 1: not between)
};
enum LoopKind : uint8_t { loopGreedy = 0, loopLazy = 1, loopPossessive = 2 };

enum class TableKind : uint8_t {
  CharMap = 0, ///< u32 rows, each {u32 character, u8 n, n x u32 its image}, ascending
  Classes = 1, ///< u32 rows, each {u32 character, u8 canonical combining class}, ascending
  Compositions =
      2, ///< u32 rows, each {u32 first, u32 second, u32 composed}, ascending by first, second
  Charsmap = 3, ///< u32 rows, each {string key, string image}, ascending by key
};

enum class NormalizerStep : uint8_t {
  CharMap = 0,    ///< u32 table: each character becomes its image
  NormalForm = 1, ///< u32 decomposition table, u32 classes table, u32 compositions table or none
  Replace = 2,    ///< u32 pattern, string
  Prepend = 3,    ///< string, before a text that is not empty
  Strip = 4,      ///< u8 left, u8 right, u32 set
  Pad = 5,        ///< u32 set: a space on both sides of each of its characters
  Charsmap = 6,   ///< u32 table, u32 sets: those that join, that prepend and of controls
};

enum class PreTokenizerStep : uint8_t {
  Split = 0,       ///< u32 pattern, u8 SplitBehavior, u8 invert
  ByteMap = 1,     ///< every byte becomes its GPT-2 character
  PrefixSpace = 2, ///< a piece that does not start with a space gets one
  Metaspace = 3,   ///< string for a space, u8 PrependScheme
};
enum class SplitBehavior : uint8_t {
  Isolated = 0,
  Removed = 1,
  MergedWithPrevious = 2,
  MergedWithNext = 3,
  Contiguous = 4,
};
enum class PrependScheme : uint8_t { Never = 0, First = 1, Always = 2 };

enum class DecoderStep : uint8_t {
  ByteLevel = 0,    ///< GPT-2 characters become bytes, the bytes one text
  ByteFallback = 1, ///< runs of "<0x..>" become text
  Fuse = 2,         ///< the tokens become one text
  Strip = 3,        ///< u32 character, u32 at most so many at the start, u32 at the end
  Replace = 4,      ///< u32 pattern, string
  Metaspace = 5,    ///< string that becomes a space, u8 1: is dropped from the first token
  JoinSpaces = 6,   ///< a space between tokens (tokenizers without a decoder)
  WordPiece = 7,    ///< string prefix, u8 1: tidies English punctuation; a space between words
};

} // namespace smelt

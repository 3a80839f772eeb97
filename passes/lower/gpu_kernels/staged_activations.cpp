// Activations on their way from global memory to a workgroup's.
#include "passes/lower/gpu_kernels/staged_activations.h"

using namespace mlir;

namespace smelt {

namespace {

constexpr int64_t quadsOfBlock = blockInputs / 4; ///< words of codes of a row
constexpr int64_t quadsOfItem = 4;                ///< that a thread brings of a row
constexpr int64_t itemsOfRow = quadsOfBlock / quadsOfItem;
constexpr int64_t groupThreads = 4, quadsOfThread = quadsOfBlock / groupThreads, rowsOfThread = 2;

} // namespace

StagedActivations::StagedActivations(GpuBuilder &k, const DotFormulas &dots, int64_t dotInputs,
                                     Value firstBlock, int64_t rowBlocks)
    : k(k), layout(dots.layout), dotInputs(dotInputs), rowBlocks(rowBlocks) {
  const int64_t eachDot = blockInputs / dotInputs;
  arrays.push_back({layout.scaleOffset, blockInputs / groupInputs, {}});
  if (dots.isAsymmetric()) {
    scaledSumArray = int64_t(arrays.size());
    arrays.push_back({dots.scaledSumOffset(), eachDot, {}});
  }
  if (dots.areCorrected()) {
    sumArray = int64_t(arrays.size());
    arrays.push_back({dots.sumOffset(), eachDot, {}});
  }
  staged = k.shared(2 * layout.planes * rows() * quadsOfBlock);
  for (Array &array : arrays)
    array.staged = k.shared(2 * rows() * array.count);

  addSources(firstBlock);
}

void StagedActivations::addSources(Value firstBlock) {
  // Rows that are not there repeat the last one.
  Value lastBlock = k.div(k.sub(k.rowCount(), k.idx(1)), manyInterleave);
  auto add = [&](Value item, int64_t itemsOfBlock, int64_t offset, Value plane,
                 int64_t wordsOfBlock, ValueRange words) {
    Value number = k.min(k.add(firstBlock, k.rem(k.div(item, itemsOfBlock), rowBlocks)), lastBlock);
    ActivationWords x(k, k.operand(0), number);
    Value lane = k.min(k.rem(item, manyInterleave), k.sub(x.width, k.idx(1)));
    Source source{{}, k.mul(x.width, wordsOfBlock)};
    for (Value word : words) {
      Value start = x.place(offset, word, lane);
      source.starts.push_back(plane ? k.add(start, k.mul(plane, layout.planeBytes / 4)) : start);
    }
    sources.push_back(source);
  };
  for (int64_t round = 0; round < rounds(codeItems()); ++round) {
    Value at = item(round, codeItems());
    Values quads;
    for (int64_t i = 0; i < quadsOfItem; ++i)
      quads.push_back(k.add(firstQuad(at), i));
    Value plane = layout.planes > 1 ? k.div(at, codeItems() / layout.planes) : Value();
    add(at, manyInterleave * itemsOfRow, 0, plane, quadsOfBlock, quads);
  }
  for (const Array &array : arrays) {
    const int64_t items = rows() * array.count;
    for (int64_t round = 0; round < rounds(items); ++round) {
      Value at = item(round, items);
      Value which = k.rem(k.div(at, manyInterleave), array.count);
      add(at, manyInterleave * array.count, array.offset, {}, array.count, which);
    }
  }
}

int64_t StagedActivations::codeItems() const { return layout.planes * rows() * itemsOfRow; }
int64_t StagedActivations::rounds(int64_t items) const {
  return (items + k.launch.threads - 1) / k.launch.threads;
}
/// What this thread brings in a round. Where there are more threads, several bring the same.
Value StagedActivations::item(int64_t round, int64_t items) {
  if (items < k.launch.threads)
    return k.rem(k.thread(), items);
  return k.add(k.thread(), round * k.launch.threads);
}

/// Neighbours are eight rows, then the two halves of a block.
Value StagedActivations::firstQuad(Value item) {
  Value number = k.div(item, manyInterleave);
  return k.add(k.mul(k.rem(number, 2), quadsOfBlock / 2),
               k.mul(k.rem(k.div(number, 2), 2), quadsOfItem));
}

Values StagedActivations::load(Value block) {
  Values loaded;
  for (const Source &source : sources)
    for (Value start : source.starts)
      loaded.push_back(k.word(k.operand(0), k.add(start, k.mul(block, source.stride))));
  return loaded;
}

/// Where the words of a row (those of all planes are counted on) begin that are for threads with
/// `inGroup` = `thread`.
Value StagedActivations::slot(Value row, Value thread) {
  Value place = arith::XOrIOp::create(k.b, thread, k.rem(k.div(row, 2), groupThreads));
  return k.add(k.mul(row, quadsOfBlock), k.mul(place, quadsOfThread));
}

void StagedActivations::storeCodes(Value item, ValueRange words, Value stage) {
  Value block = k.div(item, manyInterleave * itemsOfRow);
  Value row = k.add(k.mul(block, manyInterleave), k.rem(item, manyInterleave));
  Value first = k.mul(stage, layout.planes * rows() * quadsOfBlock);
  const int64_t quadsOfDot = dotInputs / 4, together = quadsOfDot / groupThreads;
  Value quad = firstQuad(item), dot = k.div(quad, quadsOfDot), within = k.rem(quad, quadsOfDot);
  for (int64_t i = 0; i < quadsOfItem; i += together) {
    Value thread = k.div(k.add(within, i), together);
    Value place = k.add(k.add(first, slot(row, thread)), k.mul(dot, together));
    if (together == 1)
      k.setWord(staged, place, words[size_t(i)]);
    else
      k.setWordsTogether(staged, place, words.slice(size_t(i), size_t(together)));
  }
}

void StagedActivations::store(const Values &loaded, Value stage) {
  ValueRange next = loaded;
  for (int64_t round = 0; round < rounds(codeItems()); ++round) {
    storeCodes(item(round, codeItems()), next.take_front(quadsOfItem), stage);
    next = next.drop_front(quadsOfItem);
  }
  for (const Array &array : arrays) {
    const int64_t items = rows() * array.count;
    for (int64_t round = 0; round < rounds(items); ++round) {
      Value at = item(round, items);
      Value which = k.rem(k.div(at, manyInterleave), array.count);
      Value row = k.add(k.mul(k.div(at, manyInterleave * array.count), manyInterleave),
                        k.rem(at, manyInterleave));
      Value place = k.add(k.mul(row, array.count), which);
      k.setWord(array.staged, k.add(place, k.mul(stage, items)), next.front());
      next = next.drop_front();
    }
  }
}

Values StagedActivations::codes(Value stage, int64_t plane, int64_t rowBlock, Value group,
                                Value inGroup) {
  // Of every eight rows the slots lie alike.
  Value first = k.add(slot(group, inGroup), k.mul(stage, layout.planes * rows() * quadsOfBlock));
  const int64_t row = plane * rows() + rowBlock * manyInterleave;
  return k.wordsTogether(staged, k.add(first, row * quadsOfBlock), quadsOfThread);
}

StagedActivations::OfRows StagedActivations::read(size_t number, Value stage, int64_t rowBlock,
                                                  Value inGroup) {
  const Array &array = arrays[number];
  const int64_t words = rowsOfThread * array.count;
  OfRows result;
  result.count = array.count;
  Value first = k.add(k.add(k.mul(inGroup, words), k.mul(stage, rows() * array.count)),
                      rowBlock * manyInterleave * array.count);
  for (int64_t i = 0; i < words; i += 4)
    result.words.append(k.wordsTogether(array.staged, k.add(first, i), 4));
  return result;
}

} // namespace smelt

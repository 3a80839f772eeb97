// The vocabulary of GPU kernels in terms of the gpu, arith and memref dialects.
#include "passes/lower/gpu_kernels/builder.h"

#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/SPIRV/IR/SPIRVAttributes.h"
#include "mlir/Dialect/SPIRV/IR/SPIRVDialect.h"
#include "mlir/Dialect/SPIRV/IR/SPIRVOps.h"
#include "mlir/Dialect/SPIRV/IR/TargetAndABI.h"

using namespace mlir;

namespace smelt {

namespace {

/// NVVM's pointers know no size, but want one stated.
constexpr int64_t nominalWords = int64_t(1) << 29;

/// Bytes; of weights and scratch (format.h).
constexpr int64_t operandAlignment = 64;

Value intrinsic(GpuBuilder &k, StringRef name, ValueRange operands) {
  return LLVM::CallIntrinsicOp::create(k.b, k.i32, k.b.getStringAttr(name), operands).getResult(0);
}

Attribute memorySpace(GpuBuilder &k, spirv::StorageClass storage, gpu::AddressSpace space) {
  MLIRContext *context = k.b.getContext();
  if (k.target.isPtx())
    return gpu::AddressSpaceAttr::get(context, space);
  return spirv::StorageClassAttr::get(context, storage);
}

} // namespace

Type GpuBuilder::globalWords() {
  const int64_t size = target.isPtx() ? nominalWords : ShapedType::kDynamic;
  return MemRefType::get(
      {size}, i32, AffineMap(),
      memorySpace(*this, spirv::StorageClass::StorageBuffer, gpu::AddressSpace::Global));
}

GpuBuilder::GpuBuilder(ModuleOp module, const KernelSpec &spec, const GpuTarget &target)
    : ValueBuilder(module), spec(spec), target(target), launch(launchOf(spec, target)) {
  b.setInsertionPointToEnd(module.getBody());
  auto kernels = gpu::GPUModuleOp::create(b, "kernels");
  b.setInsertionPointToStart(kernels.getBody());
  SmallVector<Type> inputs(gpuLeadingArguments + format::operandCount, globalWords());
  function = gpu::GPUFuncOp::create(b, spec.name(), b.getFunctionType(inputs, {}));
  function->setAttr(gpu::GPUDialect::getKernelFuncAttrName(), b.getUnitAttr());
  if (target.isPtx()) {
    // Where weights and activations start, and what lies within them on multiples of a few words.
    if (spec.kind == KernelKind::Linear)
      for (unsigned i : {0u, 1u})
        function.setArgAttr(gpuLeadingArguments + i, LLVM::LLVMDialect::getAlignAttrName(),
                            b.getI64IntegerAttr(operandAlignment));
    function.setKnownBlockSize(ArrayRef<int32_t>{int32_t(launch.threads), 1, 1});
    // Left alone, and with 512, ptxas spills a few registers of large kernels to reach an occupancy
    // that nobody asked for.
    const int64_t threads = roundUp(launch.threads, target.subgroup);
    const auto groups = int32_t(std::max<int64_t>(1, launch.residentThreads / threads));
    function->setAttr("nvvm.minctasm", b.getI32IntegerAttr(groups));
  } else {
    function->setAttr(spirv::getEntryPointABIAttrName(),
                      spirv::getEntryPointABIAttr(b.getContext(), {int32_t(launch.threads), 1, 1}));
  }
  entry = &function.getBody().front();
  b.setInsertionPointToStart(entry);
  threadId = gpu::ThreadIdOp::create(b, gpu::Dimension::x);
  for (auto dimension : {gpu::Dimension::x, gpu::Dimension::y, gpu::Dimension::z})
    groupId[size_t(dimension)] = gpu::BlockIdOp::create(b, dimension);
}

void GpuBuilder::finish() { gpu::ReturnOp::create(b); }

//===--- Operands -----------------------------------------------------------------------------===//

Words GpuBuilder::operand(int i) {
  Words &known = operands[i];
  if (known.memref)
    return known;
  if (target.isPtx())
    return known = {function.getArgument(unsigned(gpuLeadingArguments + i)), {}};
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointAfterValue(groupId[2]);
  Value place = arith::ConstantIndexOp::create(b, i);
  Value first = memref::LoadOp::create(b, function.getArgument(1), ValueRange{place});
  return known = {function.getArgument(unsigned(gpuLeadingArguments + i)),
                  arith::IndexCastOp::create(b, index, first)};
}

Value GpuBuilder::field(format::StepField field) {
  return toIndex(load({function.getArgument(0)}, idx(field)));
}

Value GpuBuilder::rowCount() {
  if (spec.one)
    return idx(1);
  return field(spec.logitRows ? format::FieldLogitRows : format::FieldTokens);
}

Values GpuBuilder::loop(Value begin, Value end, int64_t step, ValueRange init,
                        const std::function<Values(Value, ValueRange)> &body) {
  return ifElse(
      less(begin, end), init.getTypes(),
      [&] { return ValueBuilder::loop(begin, end, step, init, body); },
      [&] { return Values(init); });
}

void GpuBuilder::forItems(int64_t count, const std::function<void(Value)> &body) {
  if (count == launch.threads)
    body(threadId);
  else if (count < launch.threads)
    ifThen(less(threadId, idx(count)), [&] { body(threadId); });
  else
    loop(threadId, idx(count), launch.threads, body);
}

//===--- Memory -------------------------------------------------------------------------------===//

Value GpuBuilder::word(Words words, Value at) { return load({words.memref}, addressOf(words, at)); }
Value GpuBuilder::number(Words words, Value at) { return asFloat(word(words, at)); }
void GpuBuilder::setWord(Words words, Value at, Value value) {
  store({words.memref}, addressOf(words, at), value);
}
void GpuBuilder::setNumber(Words words, Value at, Value value) {
  setWord(words, at, asBits(value));
}

Values GpuBuilder::wordsTogether(Words words, Value at, int64_t n) {
  Value all = vector::LoadOp::create(b, vec(n, i32), words.memref, ValueRange{addressOf(words, at)},
                                     /*nontemporal=*/false, llvm::Align(size_t(n) * 4));
  Values values;
  for (int64_t i = 0; i < n; ++i)
    values.push_back(vector::ExtractOp::create(b, all, i));
  return values;
}
void GpuBuilder::setWordsTogether(Words words, Value at, ValueRange values) {
  const auto n = int64_t(values.size());
  Value all = vector::FromElementsOp::create(b, vec(n, i32), values);
  vector::StoreOp::create(b, all, words.memref, ValueRange{addressOf(words, at)},
                          /*nontemporal=*/false, llvm::Align(size_t(n) * 4));
}

/// Where element `at` begins within its word, as int32.
Value GpuBuilder::bitOffset(Value at, int64_t perWord) {
  return arith::IndexCastOp::create(b, i32, mul(rem(at, perWord), 32 / perWord));
}

Value GpuBuilder::byte(Words words, Value at) { return byteOf(word(words, div(at, 4)), at); }
Value GpuBuilder::byteOf(Value word, Value at) {
  return iand(shrLogicBy(word, bitOffset(at, 4)), i32Const(255));
}

Value GpuBuilder::bfloat16(Words words, Value at) {
  return asFloat(shl(shrLogicBy(word(words, div(at, 2)), bitOffset(at, 2)), 16));
}

// Numbers below 2^-14 are multiples of 2^-24; the exponents of others differ by 112.
static Value halfToFloat(GpuBuilder &k, Value bits) {
  if (k.target.isPtx()) {
    Value half = arith::BitcastOp::create(k.b, k.f16, arith::TruncIOp::create(k.b, k.i16, bits));
    return arith::ExtFOp::create(k.b, k.f32, half);
  }
  Value magnitude = k.iand(bits, k.i32Const(0x7fff));
  Value small = k.fmul(k.toFloat(magnitude), k.f32Const(0x1p-24));
  Value usual = k.asFloat(k.iadd(k.shl(magnitude, 13), k.i32Const(112 << 23)));
  Value isSmall = k.is(arith::CmpIPredicate::slt, magnitude, k.i32Const(0x400));
  Value sign = k.shl(k.iand(bits, k.i32Const(0x8000)), 16);
  return k.asFloat(k.ior(k.asBits(k.select(isSmall, small, usual)), sign));
}

// Below 2^-14: adding 0.5, whose last bit is 2^-24, rounds, and the difference of the bits is the
// code. Others: half of the dropped bits is added, a little less where the last one kept is even.
static Value floatToHalf(GpuBuilder &k, Value number) {
  Value bits = k.asBits(number);
  Value magnitude = k.iand(bits, k.i32Const(0x7fffffff));
  Value shifted = k.asBits(k.fadd(k.asFloat(magnitude), k.f32Const(0.5)));
  Value small = k.isub(shifted, k.i32Const(0x3f000000));
  Value odd = k.iand(k.shrLogic(magnitude, 13), k.i32Const(1));
  Value rounded = k.iadd(k.iadd(magnitude, odd), k.i32Const(0xfff - (112 << 23)));
  Value isSmall = k.is(arith::CmpIPredicate::slt, magnitude, k.i32Const(0x38800000));
  Value code = k.select(isSmall, small, k.shrLogic(rounded, 13));
  return k.ior(code, k.iand(k.shrLogic(bits, 16), k.i32Const(0x8000)));
}

Value GpuBuilder::half(Words words, Value at) { return halfOf(word(words, div(at, 2)), at); }
Value GpuBuilder::halfOf(Value word, Value at) {
  return halfToFloat(*this, shrLogicBy(word, bitOffset(at, 2)));
}

std::pair<Value, Value> GpuBuilder::halves(Words words, Value at) {
  Value both = word(words, div(at, 2));
  return {halfToFloat(*this, iand(both, i32Const(0xffff))), halfToFloat(*this, shrLogic(both, 16))};
}

void GpuBuilder::setHalf(Words words, Value at, Value value) {
  setBits(words, at, 16, floatToHalf(*this, value));
}

Value GpuBuilder::roundToHalf(Value number) {
  return halfToFloat(*this, floatToHalf(*this, number));
}

void GpuBuilder::setByte(Words words, Value at, Value value) {
  setBits(words, at, 8, iand(value, i32Const(255)));
}

/// Clears the element's bits, then sets those of `bits`: other elements of the word are not
/// touched, and this one has one writer.
void GpuBuilder::setBits(Words words, Value at, int64_t width, Value bits) {
  const int64_t perWord = 32 / width;
  Value place = addressOf(words, div(at, perWord)), offset = bitOffset(at, perWord);
  auto shifted = [&](Value v) { return arith::ShLIOp::create(b, v, offset); };
  Value others = ixor(shifted(i32Const((int64_t(1) << width) - 1)), i32Const(-1));
  memref::AtomicRMWOp::create(b, arith::AtomicRMWKind::andi, others, words.memref,
                              ValueRange{place});
  memref::AtomicRMWOp::create(b, arith::AtomicRMWKind::ori, shifted(bits), words.memref,
                              ValueRange{place});
}

Value GpuBuilder::addToWord(Words words, Value at, Value value) {
  return memref::AtomicRMWOp::create(b, arith::AtomicRMWKind::addi, value, words.memref,
                                     ValueRange{addressOf(words, at)});
}

Words GpuBuilder::shared(int64_t words) {
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToStart(entry);
  auto type = MemRefType::get(
      {words}, i32, AffineMap(),
      memorySpace(*this, spirv::StorageClass::Workgroup, gpu::AddressSpace::Workgroup));
  // The conversion to SPIR-V knows no attributions, that to NVVM no allocations.
  if (target.isPtx()) {
    Value words = function.addWorkgroupAttribution(type, b.getLoc());
    // LLVM's optimizer takes arrays that say nothing for aligned to 16 bytes, and loads four words
    // at once, but its PTX aligns them to 4.
    function.setWorkgroupAttributionAttr(int(function.getNumWorkgroupAttributions()) - 1,
                                         LLVM::LLVMDialect::getAlignAttrName(),
                                         b.getI64IntegerAttr(16));
    return {words, {}};
  }
  return {memref::AllocOp::create(b, type), {}};
}

void GpuBuilder::barrier() { gpu::BarrierOp::create(b); }

//===--- Values -------------------------------------------------------------------------------===//

Value GpuBuilder::fma(Value a, Value c, Value d) {
  if (target.isPtx())
    return ValueBuilder::fma(a, c, d);
  return spirv::GLFmaOp::create(b, f32, a, c, d);
}

Value GpuBuilder::addProducts(Value sum, Value codes, bool signedCodes, Value inputs) {
  if (target.isPtx())
    return intrinsic(*this, signedCodes ? "llvm.nvvm.idp4a.s.s" : "llvm.nvvm.idp4a.u.s",
                     {codes, inputs, sum});
  for (int64_t i = 0; i < 4; ++i) {
    Value code = signedCodes ? signedByte(codes, i) : unsignedByte(codes, i);
    sum = iadd(sum, imul(code, signedByte(inputs, i)));
  }
  return sum;
}

Values GpuBuilder::addTileProduct(ValueRange sums, ValueRange codes, bool signedCodes,
                                  ValueRange inputs) {
  std::string name = codes.size() == 4 ? "llvm.nvvm.mma.m16n8k32" : "llvm.nvvm.mma.m16n8k16";
  name += signedCodes ? ".row.col.s8" : ".row.col.u8.s8";
  Values operands(codes);
  operands.append(inputs.begin(), inputs.end());
  operands.append(sums.begin(), sums.end());
  auto type = LLVM::LLVMStructType::getLiteral(b.getContext(), SmallVector<Type>(sums.size(), i32));
  Value made = LLVM::CallIntrinsicOp::create(b, type, b.getStringAttr(name), operands).getResult(0);
  Values results;
  for (size_t i = 0; i < sums.size(); ++i)
    results.push_back(LLVM::ExtractValueOp::create(b, made, int64_t(i)));
  return results;
}

Value GpuBuilder::permuteBytes(Value low, Value high, Value places) {
  return intrinsic(*this, "llvm.nvvm.prmt", {low, high, places});
}

Value GpuBuilder::asFloat(Value bits) { return arith::BitcastOp::create(b, f32, bits); }
Value GpuBuilder::asBits(Value number) { return arith::BitcastOp::create(b, i32, number); }
Value GpuBuilder::signedByte(Value word, int64_t i) {
  return shrArith(i == 3 ? word : shl(word, 24 - 8 * i), 24);
}
Value GpuBuilder::unsignedByte(Value word, int64_t i) {
  return i == 3 ? shrLogic(word, 24) : iand(i ? shrLogic(word, 8 * i) : word, i32Const(255));
}
Value GpuBuilder::packBytes(ValueRange bytes) {
  Value packed = iand(bytes[0], i32Const(255));
  for (int64_t i = 1; i < 4; ++i) {
    Value byte = i == 3 ? bytes[3] : iand(bytes[size_t(i)], i32Const(255));
    packed = ior(packed, shl(byte, 8 * i));
  }
  return packed;
}
Value GpuBuilder::shrLogicBy(Value word, Value bits) {
  return arith::ShRUIOp::create(b, word, bits);
}
Value GpuBuilder::is(arith::CmpIPredicate predicate, Value a, Value c) {
  return arith::CmpIOp::create(b, predicate, a, c);
}

Values GpuBuilder::exchanged(ValueRange values, int64_t distance) {
  Values results;
  if (distance < target.subgroup) {
    for (Value value : values)
      results.push_back(gpu::ShuffleOp::create(b, value, int32_t(distance),
                                               int32_t(target.subgroup), gpu::ShuffleMode::XOR)
                            .getShuffleResult());
    return results;
  }
  Value other = arith::XOrIOp::create(b, threadId, idx(distance));
  for (auto [i, value] : llvm::enumerate(values))
    setWord(exchange, add(threadId, int64_t(i) * launch.threads),
            value.getType() == f32 ? asBits(value) : value);
  barrier();
  for (auto [i, value] : llvm::enumerate(values)) {
    Value bits = word(exchange, add(other, int64_t(i) * launch.threads));
    results.push_back(value.getType() == f32 ? asFloat(bits) : bits);
  }
  barrier();
  return results;
}

Values GpuBuilder::reduce(Values values, int64_t n, const Combine &combine) {
  const int64_t needed = launch.threads * int64_t(values.size());
  if (n > target.subgroup && needed > exchangeWords) {
    exchange = shared(needed);
    exchangeWords = needed;
  }
  for (int64_t distance = 1; distance < n; distance *= 2) {
    Values others = exchanged(values, distance);
    for (auto [value, other] : llvm::zip(values, others))
      value = combine(value, other);
  }
  return values;
}

} // namespace smelt

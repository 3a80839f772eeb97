// AMX by LLVM's intrinsics with numbered registers.
#include "passes/lower/kernels/matrix_unit.h"

#include "mlir/Dialect/LLVMIR/LLVMDialect.h"

using namespace mlir;

namespace smelt {

MatrixUnit::MatrixUnit(KernelBuilder &k, const Shapes &shapes)
    : k(k), shapes(shapes), configuration(k.scratch(64, k.i8)) {}

void MatrixUnit::call(StringRef name, ArrayRef<int> matrices, ValueRange operands) {
  Values all;
  for (int matrix : matrices)
    all.push_back(LLVM::ConstantOp::create(k.b, k.i8, k.b.getI8IntegerAttr(int8_t(matrix))));
  all.append(operands.begin(), operands.end());
  LLVM::CallIntrinsicOp::create(k.b, k.b.getStringAttr("llvm.x86." + name), all);
}

Value MatrixUnit::address(Buffer buffer, Value byte) {
  Value first = memref::ExtractAlignedPointerAsIndexOp::create(k.b, buffer.memref);
  Value number = arith::IndexCastOp::create(k.b, k.b.getI64Type(), k.add(first, byte));
  return LLVM::IntToPtrOp::create(k.b, LLVM::LLVMPointerType::get(k.b.getContext()), number);
}

void MatrixUnit::configure() {
  // Palette 1: 8 registers of 1 KB; bytes of a row as 16 bits from byte 16 on, rows from byte 48.
  SmallVector<int8_t> bytes(64);
  bytes[0] = 1;
  for (size_t i = 0; i < shapes.size(); ++i) {
    bytes[16 + 2 * i] = int8_t(shapes[i].bytes);
    bytes[48 + i] = int8_t(shapes[i].rows);
  }
  Value zero = k.idx(0);
  k.storeVector(
      configuration, zero,
      arith::ConstantOp::create(k.b, DenseElementsAttr::get(k.vec(64, k.i8), ArrayRef(bytes))), 64);
  call("ldtilecfg", {}, address(configuration, zero));
}

void MatrixUnit::release() { call("tilerelease", {}); }

void MatrixUnit::zero(int matrix) { call("tilezero", matrix); }

void MatrixUnit::load(int matrix, Buffer bytes, Value at, int64_t stride) {
  Value step = LLVM::ConstantOp::create(k.b, k.b.getI64Type(), k.b.getI64IntegerAttr(stride));
  call("tileloadd64", matrix, {address(bytes, at), step});
}

void MatrixUnit::multiply(int sums, int signedBytes, int unsignedBytes) {
  call("tdpbsud", {sums, signedBytes, unsignedBytes});
}

void MatrixUnit::store(int matrix, Buffer words, Value at) {
  Value step = LLVM::ConstantOp::create(k.b, k.b.getI64Type(),
                                        k.b.getI64IntegerAttr(shapes[size_t(matrix)].bytes));
  call("tilestored64", matrix, {address(words, k.mul(at, 4)), step});
}

} // namespace smelt
